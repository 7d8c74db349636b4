-- The same as before at less cost: `store_scalars` ran a query for every value that is indexed, planned anew in every
-- statement; `project_store` took a row of eight columns for each put, three of them times, and looked for expired items
-- before it put any; `move_partitions` joined for a single row.

CREATE OR REPLACE FUNCTION store_scalars(value jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    -- Strict: a lax path would look into lists.
    IF value @? 'strict $.* ? (@.type() == "object" || @.type() == "array")' THEN
        RETURN (SELECT jsonb_object_agg(f.key, f.value) FROM jsonb_each(value) f
            WHERE jsonb_typeof(f.value) NOT IN ('object', 'array'));
    END IF;
    RETURN value;
END $$;

DROP FUNCTION project_store(store_sweep[], store_touch[], store_key[], store_put[], store_vectors[]);
DROP TYPE store_put;

-- What puts have in common: those of one command, and more if it is the same for them. ttl_from: when their time to
-- live began.
CREATE TYPE store_write AS (
    namespace text, p int, created_at timestamptz, updated_at timestamptz, ttl_from timestamptz
);

-- Of puts, column by column: the number of their write (from 1), key, value, ttl in minutes. The arguments in this order
-- (`projections.fold.store`): what a sweep removes is not written in the same fold. Arguments that are NULL have no rows.
CREATE FUNCTION project_store(
    sweeps store_sweep[], touches store_touch[], gone store_key[],
    writes store_write[], put_writes int[], put_keys text[], put_values jsonb[], put_ttls float8[],
    vectors store_vectors[]
) RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    IF sweeps IS NOT NULL THEN
        WITH swept AS (
            DELETE FROM store_items i USING unnest(sweeps) s
                WHERE i.namespace = s.namespace AND i.expires_at <= s.before RETURNING i.namespace, i.key
        )
        DELETE FROM store_vectors v USING swept WHERE v.namespace = swept.namespace AND v.key = swept.key;
    END IF;
    IF touches IS NOT NULL THEN
        UPDATE store_items i SET expires_at = t.at + make_interval(secs => i.ttl_minutes * 60) FROM unnest(touches) t
            WHERE i.namespace = t.namespace AND i.key = t.key AND i.ttl_minutes IS NOT NULL;
    END IF;
    IF gone IS NOT NULL THEN
        DELETE FROM store_items i USING unnest(gone) g WHERE i.namespace = g.namespace AND i.key = g.key;
    END IF;
    IF (gone IS NOT NULL OR writes IS NOT NULL) AND EXISTS (SELECT FROM store_vectors) THEN
        DELETE FROM store_vectors v USING (
            SELECT g.namespace, g.key FROM unnest(gone) g
            UNION ALL
            SELECT (writes[n.w]).namespace, n.key FROM unnest(put_writes, put_keys) AS n (w, key)
        ) w WHERE v.namespace = w.namespace AND v.key = w.key;
    END IF;
    IF writes IS NOT NULL THEN
        INSERT INTO store_items AS i
            SELECT (writes[n.w]).namespace, n.key, (writes[n.w]).p, n.value,
                (writes[n.w]).created_at, (writes[n.w]).updated_at, n.ttl,
                (writes[n.w]).ttl_from + make_interval(secs => n.ttl * 60)
            FROM unnest(put_writes, put_keys, put_values, put_ttls) AS n (w, key, value, ttl)
            ON CONFLICT (namespace, key) DO UPDATE SET
                value = excluded.value, updated_at = excluded.updated_at, ttl_minutes = excluded.ttl_minutes,
                expires_at = excluded.expires_at,
                created_at = CASE WHEN i.expires_at <= excluded.created_at      -- one that had expired is a new one
                    THEN excluded.created_at ELSE i.created_at END;
    END IF;
    IF vectors IS NOT NULL THEN
        INSERT INTO store_vectors SELECT * FROM unnest(vectors);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION move_partitions(moves partition_move[]) RETURNS void LANGUAGE plpgsql
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    moved int;
    lost  text;
    one   partition_move := moves[1];
BEGIN
    IF cardinality(moves) = 1 THEN
        UPDATE partitions t SET ev_off = one.ev_off, cmd_off = one.cmd_off, log_epoch = one.log_epoch
            WHERE t.p = one.p AND t.epoch = one.epoch AND t.ev_off < one.ev_off;
    ELSE                                        -- in order: two processes never wait for each other in a circle
        PERFORM FROM partitions t WHERE t.p IN (SELECT m.p FROM unnest(moves) m) ORDER BY t.p FOR NO KEY UPDATE;
        UPDATE partitions t SET ev_off = m.ev_off, cmd_off = m.cmd_off, log_epoch = m.log_epoch
            FROM unnest(moves) m WHERE t.p = m.p AND t.epoch = m.epoch AND t.ev_off < m.ev_off;
    END IF;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> cardinality(moves) THEN
        SELECT string_agg(m.p::text, ',' ORDER BY m.p) INTO lost
            FROM unnest(moves) m LEFT JOIN partitions t ON t.p = m.p AND t.epoch = m.epoch AND t.ev_off = m.ev_off
            WHERE t.p IS NULL;
        RAISE EXCEPTION 'fenced' USING ERRCODE = 'TL001', DETAIL = coalesce(lost, '');
    END IF;
END $$;

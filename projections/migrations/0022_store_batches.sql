-- Puts at less cost. `store_scalars`: where a value has no objects or lists in it, as most, the server evaluates the
-- expression behind the function and calls none. `project_puts`: what one command puts, which is nearly always all that
-- a fold changes of the store.

CREATE FUNCTION store_scalars_of_nested(value jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (SELECT jsonb_object_agg(f.key, f.value) FROM jsonb_each(value) f
        WHERE jsonb_typeof(f.value) NOT IN ('object', 'array'));
END $$;

-- `RETURN`, not a text: the name in it is looked up now, not where the server maintains an index without a search_path.
-- The same entries in the index as before: an object or list without anything in it has none.
CREATE OR REPLACE FUNCTION store_scalars(value jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN value @? 'strict $.**{2}' THEN store_scalars_of_nested(value) ELSE value END;

-- Sessions forget the expression that they know of the index.
ALTER INDEX store_items_scalars SET (gin_pending_list_limit = 256);

-- Items of one namespace that are put at one time, and with them the state of their aggregate: keys and values (a JSON
-- array) in the same order, times to live in minutes or NULL, the least and the greatest of the keys. Where no item is
-- between these, none is replaced, which is a third cheaper to write: the partition's owner alone writes them, in
-- transactions that `move_partitions` orders. `applied`: what waiting processes are notified of, or NULL.
CREATE FUNCTION project_puts(
    aggregate text, state_ json, namespace_ text, p_ int, at timestamptz,
    put_keys text[], put_values jsonb, put_ttls float8[], least_ text, greatest_ text,
    applied text
) RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    INSERT INTO aggregates VALUES (aggregate, p_, state_, NULL) ON CONFLICT (key) DO UPDATE SET
        state = excluded.state, deleted_at = excluded.deleted_at;
    IF EXISTS (SELECT FROM store_vectors) THEN
        DELETE FROM store_vectors v USING unnest(put_keys) k WHERE v.namespace = namespace_ AND v.key = k;
    END IF;
    IF cardinality(put_keys) = 1 THEN
        INSERT INTO store_items AS i VALUES (
            namespace_, least_, p_, put_values -> 0, at, at, put_ttls[1], at + make_interval(secs => put_ttls[1] * 60)
        ) ON CONFLICT (namespace, key) DO UPDATE SET
            value = excluded.value, updated_at = excluded.updated_at, ttl_minutes = excluded.ttl_minutes,
            expires_at = excluded.expires_at,
            created_at = CASE WHEN i.expires_at <= excluded.created_at          -- one that had expired is a new one
                THEN excluded.created_at ELSE i.created_at END;
    ELSIF EXISTS (
        SELECT FROM store_items i WHERE i.namespace = namespace_ AND i.key >= least_ AND i.key <= greatest_
    ) THEN
        INSERT INTO store_items AS i
            SELECT namespace_, n.key, p_, n.value, at, at, n.ttl, at + make_interval(secs => n.ttl * 60)
            FROM ROWS FROM (unnest(put_keys), jsonb_array_elements(put_values), unnest(put_ttls)) AS n (key, value, ttl)
            ON CONFLICT (namespace, key) DO UPDATE SET
                value = excluded.value, updated_at = excluded.updated_at, ttl_minutes = excluded.ttl_minutes,
                expires_at = excluded.expires_at,
                created_at = CASE WHEN i.expires_at <= excluded.created_at
                    THEN excluded.created_at ELSE i.created_at END;
    ELSE
        INSERT INTO store_items
            SELECT namespace_, n.key, p_, n.value, at, at, n.ttl, at + make_interval(secs => n.ttl * 60)
            FROM ROWS FROM (unnest(put_keys), jsonb_array_elements(put_values), unnest(put_ttls)) AS n (key, value, ttl);
    END IF;
    IF applied IS NOT NULL THEN
        PERFORM pg_notify('threadlog_applied', applied);
    END IF;
END $$;

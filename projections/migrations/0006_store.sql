-- Items of the store (store.*), for /store and for `runtime.store` in graphs.

-- Top-level fields of a value that a filter by equality looks up in the index. A value's other fields are compared row by row.
CREATE FUNCTION store_scalars(value jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT jsonb_object_agg(f.key, f.value) FROM jsonb_each(value) f WHERE jsonb_typeof(f.value) NOT IN ('object', 'array')
$$;

CREATE TABLE store_items (
    namespace   text COLLATE "C" NOT NULL,      -- labels, which have no periods, joined by periods
    key         text COLLATE "C" NOT NULL,
    p           int NOT NULL,
    value       jsonb NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    ttl_minutes float8,                         -- NULL: kept for ever
    expires_at  timestamptz,                    -- readers leave out what is past it; the partition's owner removes it
    PRIMARY KEY (namespace, key)
) WITH (fillfactor = 85);
-- The order of a search, of one namespace and of all under a prefix that has most of the items.
CREATE INDEX store_items_namespace_updated ON store_items (namespace, updated_at);
CREATE INDEX store_items_updated ON store_items (updated_at);
CREATE INDEX store_items_scalars ON store_items USING gin (store_scalars(value) jsonb_path_ops)
    WITH (gin_pending_list_limit = 256);
CREATE INDEX store_items_expiring ON store_items (namespace, expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX store_items_due ON store_items (p, expires_at) WHERE expires_at IS NOT NULL;

-- Embedded texts of items. Without a type of pgvector, so that the read models can be filled where it is not installed;
-- where semantic search is configured the server adds an index of it (engine.store.vector_index).
CREATE TABLE store_vectors (
    namespace text COLLATE "C" NOT NULL,
    key       text COLLATE "C" NOT NULL,
    path      text COLLATE "C" NOT NULL,        -- of the text in the value
    embedding real[] NOT NULL,
    PRIMARY KEY (namespace, key, path)
);

CREATE TYPE store_sweep AS (namespace text, before timestamptz);
CREATE TYPE store_key AS (namespace text, key text);
CREATE TYPE store_touch AS (namespace text, key text, at timestamptz);
CREATE TYPE store_put AS (
    namespace text, key text, p int, value jsonb, created_at timestamptz, updated_at timestamptz, ttl_minutes float8,
    ttl_from timestamptz
);

-- The arguments in this order (`projections.fold.store`): what a sweep removes is not written in the same fold.
CREATE FUNCTION project_store(
    sweeps store_sweep[], touches store_touch[], gone store_key[], puts store_put[], vectors store_vectors[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    embedded boolean := EXISTS (SELECT FROM store_vectors);
BEGIN
    IF cardinality(sweeps) > 0 THEN
        WITH swept AS (
            DELETE FROM store_items i USING unnest(sweeps) s
                WHERE i.namespace = s.namespace AND i.expires_at <= s.before RETURNING i.namespace, i.key
        )
        DELETE FROM store_vectors v USING swept WHERE v.namespace = swept.namespace AND v.key = swept.key;
    END IF;
    IF cardinality(touches) > 0 THEN
        UPDATE store_items i SET expires_at = t.at + make_interval(secs => i.ttl_minutes * 60) FROM unnest(touches) t
            WHERE i.namespace = t.namespace AND i.key = t.key AND i.ttl_minutes IS NOT NULL;
    END IF;
    IF cardinality(gone) > 0 THEN
        DELETE FROM store_items i USING unnest(gone) g WHERE i.namespace = g.namespace AND i.key = g.key;
    END IF;
    IF embedded THEN
        DELETE FROM store_vectors v USING (
            SELECT g.namespace, g.key FROM unnest(gone) g UNION ALL SELECT n.namespace, n.key FROM unnest(puts) n
        ) w WHERE v.namespace = w.namespace AND v.key = w.key;
    END IF;
    IF cardinality(puts) > 0 THEN
        -- An item that had expired is a new one.
        DELETE FROM store_items i USING unnest(puts) n
            WHERE i.namespace = n.namespace AND i.key = n.key AND i.expires_at <= n.created_at;
        INSERT INTO store_items AS i
            SELECT n.namespace, n.key, n.p, n.value, n.created_at, n.updated_at, n.ttl_minutes,
                n.ttl_from + make_interval(secs => n.ttl_minutes * 60) FROM unnest(puts) n
            ON CONFLICT (namespace, key) DO UPDATE SET
                value = excluded.value, updated_at = excluded.updated_at, ttl_minutes = excluded.ttl_minutes,
                expires_at = excluded.expires_at;
    END IF;
    IF cardinality(vectors) > 0 THEN
        INSERT INTO store_vectors SELECT * FROM unnest(vectors);
    END IF;
END $$;

ALTER FUNCTION project_store SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION project_store SET enable_seqscan = off;

-- Threads that have been idle for their ttl, for the sweep.

-- When a thread is over: NULL if its ttl is none, or if it was swept and nothing has happened on it since. Only minutes are
-- added, so that no time zone matters.
CREATE FUNCTION thread_expiry(ttl json, updated_at timestamptz, state_updated_at timestamptz) RETURNS timestamptz
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    idle_since timestamptz := greatest(updated_at, state_updated_at);
BEGIN
    IF json_typeof(ttl -> 'ttl') IS DISTINCT FROM 'number' OR (ttl ->> 'swept')::timestamptz >= idle_since THEN
        RETURN NULL;
    END IF;
    RETURN idle_since + least((ttl ->> 'ttl')::numeric, 52560000)::float8 * interval '1 minute';
END $$;

CREATE INDEX threads_expiry ON threads (thread_expiry(ttl, updated_at, state_updated_at), thread_id) WHERE ttl IS NOT NULL;

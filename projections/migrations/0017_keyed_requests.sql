-- Requests with an idempotency key, and the commands that they have sent, as long as their keys count.
CREATE TABLE keyed_requests (
    id          text PRIMARY KEY,          -- digest of caller and key
    p           int NOT NULL,
    fingerprint text NOT NULL,             -- digest of method, path and body
    begun_at    timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    status      int,                       -- of the response; NULL: there is none yet
    headers     json,
    answer      json,                      -- the body: a string
    complete    boolean
);
CREATE INDEX keyed_requests_expiry ON keyed_requests (p, expires_at);

-- A command of a keyed request that was not refused; `id` is the command's.
CREATE TABLE keyed_commands (
    id         text COLLATE "C" PRIMARY KEY,
    p          int NOT NULL,
    ev_off     bigint NOT NULL,            -- its event record
    at         timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX keyed_commands_expiry ON keyed_commands (p, expires_at);

-- kind: begun, answered; command
CREATE TYPE keyed_change AS (
    ev_off bigint, kind text, id text, p int, at timestamptz, fingerprint text, begun_at timestamptz,
    expires_at timestamptz, status int, headers json, answer json, complete boolean
);

-- In the order of the events: what has expired goes with the next change of its partition, so that it is the same
-- whatever changes are projected together. After project_rows: with a request goes its decider's state.
CREATE FUNCTION project_keyed(changes keyed_change[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c    keyed_change;
    gone text[];
    all_gone text[] := '{}';
    margin constant interval := '1 hour';  -- clocks of senders differ, and what was sent may come late
BEGIN
    FOREACH c IN ARRAY changes LOOP
        IF c.kind = 'answered' THEN
            UPDATE keyed_requests SET status = c.status, headers = c.headers, answer = c.answer, complete = c.complete
                WHERE id = c.id;
        ELSIF c.kind = 'begun' THEN
            WITH expired AS (DELETE FROM keyed_requests WHERE p = c.p AND expires_at <= c.at - margin RETURNING id)
                SELECT array_agg(id) INTO gone FROM expired;
            all_gone := all_gone || coalesce(gone, '{}');
            INSERT INTO keyed_requests VALUES (c.id, c.p, c.fingerprint, c.begun_at, c.expires_at)
                ON CONFLICT (id) DO UPDATE SET fingerprint = excluded.fingerprint, begun_at = excluded.begun_at,
                    expires_at = excluded.expires_at, status = NULL, headers = NULL, answer = NULL, complete = NULL;
        ELSE
            DELETE FROM keyed_commands WHERE p = c.p AND expires_at <= c.at - margin;
            INSERT INTO keyed_commands VALUES (c.id, c.p, c.ev_off, c.at, c.expires_at) ON CONFLICT DO NOTHING;
        END IF;
    END LOOP;
    IF all_gone <> '{}' THEN
        DELETE FROM aggregates a USING unnest(all_gone) AS g(id)
            WHERE a.key = 'request:' || g.id AND NOT EXISTS (SELECT FROM keyed_requests r WHERE r.id = g.id);
    END IF;
END $$;

ALTER FUNCTION project_keyed SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION project_keyed SET enable_seqscan = off;

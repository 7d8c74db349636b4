-- Crons, and those of their firings whose run is yet to be created: what a partition's owner has to do.
CREATE TABLE crons (
    cron_id          uuid PRIMARY KEY,
    p                int NOT NULL,
    assistant_id     uuid NOT NULL,
    thread_id        uuid,                      -- NULL: every run has a thread of its own
    user_id          text,
    schedule         text NOT NULL,
    timezone         text,
    end_time         timestamptz,
    payload          json NOT NULL,             -- what each run is asked: {input, config, context, …}
    metadata         jsonb NOT NULL DEFAULT '{}',
    on_run_completed text,
    enabled          boolean NOT NULL,
    version          int NOT NULL,
    next_due_at      timestamptz,               -- NULL: it is disabled, or its end has come
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    last_firing      json                       -- {due_at, run_id, thread_id, error}
) WITH (fillfactor = 70);
CREATE INDEX crons_due ON crons (p, next_due_at) WHERE next_due_at IS NOT NULL;
CREATE INDEX crons_created ON crons (created_at, cron_id);
CREATE INDEX crons_thread ON crons (thread_id) WHERE thread_id IS NOT NULL;
CREATE INDEX crons_assistant ON crons (assistant_id);
CREATE INDEX crons_metadata ON crons USING gin (metadata jsonb_path_ops);

CREATE TABLE cron_firings (
    cron_id   uuid NOT NULL,
    due_at    timestamptz NOT NULL,
    p         int NOT NULL,
    run_id    uuid NOT NULL,
    thread_id uuid NOT NULL,
    PRIMARY KEY (cron_id, due_at)
);
CREATE INDEX cron_firings_p ON cron_firings (p, due_at);

-- In the order of the events. NULL leaves a column as it is, but for those that `clears` names, and `next_due_at` where it
-- counts (`moves`).
CREATE TYPE cron_change AS (
    kind text, at timestamptz, cron_id uuid, p int, assistant_id uuid, thread_id uuid, user_id text, schedule text,
    timezone text, end_time timestamptz, clears text[], payload json, metadata jsonb, on_run_completed text,
    enabled boolean, version int, moves boolean, next_due_at timestamptz, due_at timestamptz, run_id uuid, firing json
);

CREATE FUNCTION project_crons(changes cron_change[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c cron_change;
BEGIN
    FOREACH c IN ARRAY changes LOOP
        IF c.kind = 'fired' THEN
            UPDATE crons SET next_due_at = c.next_due_at, last_firing = c.firing WHERE cron_id = c.cron_id;
            INSERT INTO cron_firings VALUES (c.cron_id, c.due_at, c.p, c.run_id, c.thread_id);
        ELSIF c.kind = 'recorded' THEN
            DELETE FROM cron_firings WHERE cron_id = c.cron_id AND due_at = c.due_at;
            IF c.firing IS NOT NULL THEN
                UPDATE crons SET last_firing = (last_firing::jsonb || c.firing::jsonb)::json
                    WHERE cron_id = c.cron_id AND (last_firing ->> 'due_at')::timestamptz = c.due_at;
            END IF;
        ELSIF c.kind = 'created' THEN
            INSERT INTO crons VALUES (
                c.cron_id, c.p, c.assistant_id, c.thread_id, c.user_id, c.schedule, c.timezone, c.end_time,
                c.payload, c.metadata, c.on_run_completed, c.enabled, 1, c.next_due_at, c.at, c.at, NULL);
        ELSIF c.kind = 'updated' THEN
            UPDATE crons t SET
                schedule = coalesce(c.schedule, t.schedule),
                timezone = CASE WHEN 'timezone' = ANY (c.clears) THEN NULL ELSE coalesce(c.timezone, t.timezone) END,
                end_time = CASE WHEN 'end_time' = ANY (c.clears) THEN NULL ELSE coalesce(c.end_time, t.end_time) END,
                payload = CASE WHEN c.payload IS NULL THEN t.payload ELSE (t.payload::jsonb || c.payload::jsonb)::json END,
                metadata = t.metadata || coalesce(c.metadata, '{}'),
                on_run_completed = coalesce(c.on_run_completed, t.on_run_completed),
                enabled = coalesce(c.enabled, t.enabled), version = c.version,
                next_due_at = CASE WHEN c.moves THEN c.next_due_at ELSE t.next_due_at END, updated_at = c.at
                WHERE cron_id = c.cron_id;
        ELSIF c.kind = 'ended' THEN
            UPDATE crons SET next_due_at = NULL WHERE cron_id = c.cron_id;
        ELSE
            DELETE FROM cron_firings WHERE cron_id = c.cron_id;
            DELETE FROM crons WHERE cron_id = c.cron_id;
        END IF;
    END LOOP;
END $$;

ALTER FUNCTION project_crons SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION project_crons SET enable_seqscan = off;

-- Webhooks that wait for their delivery: what their payload says of the run, which may be gone by then (run_id is unique
-- among all threads). Delivered and dead ones are in the log alone.
CREATE TABLE webhooks (
    run_id             uuid PRIMARY KEY,
    thread_id          uuid NOT NULL,
    p                  int NOT NULL,
    url                text NOT NULL,
    receiver           text NOT NULL,           -- of the URL: host and port, so that a slow one holds up no other
    status             text NOT NULL,           -- success error timeout interrupted rollback
    error              json,
    started_at         timestamptz,
    ended_at           timestamptz NOT NULL,
    attempt            int NOT NULL,            -- the next one, from 1
    due_at             timestamptz NOT NULL,
    assistant_id       uuid,
    created_at         timestamptz NOT NULL,
    metadata           jsonb NOT NULL,
    kwargs             json NOT NULL,
    multitask_strategy text NOT NULL,
    temporary          boolean NOT NULL
);
CREATE INDEX webhooks_due ON webhooks (receiver, due_at);

CREATE TYPE webhook_change AS (run_id uuid, attempt int, due_at timestamptz);

-- Before project_rows: the run's row, from which a request with no created_at takes the rest, may go in the same fold.
CREATE FUNCTION project_webhooks(requested webhooks[], changes webhook_change[], ended uuid[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhooks
        SELECT n.run_id, n.thread_id, n.p, n.url, n.receiver, n.status, n.error, n.started_at, n.ended_at, n.attempt,
            n.due_at, coalesce(n.assistant_id, r.assistant_id), coalesce(n.created_at, r.created_at),
            coalesce(n.metadata, r.metadata), coalesce(n.kwargs, r.kwargs),
            coalesce(n.multitask_strategy, r.multitask_strategy), coalesce(n.temporary, r.temporary)
        FROM unnest(requested) n LEFT JOIN runs r ON n.created_at IS NULL AND r.run_id = n.run_id
        WHERE n.created_at IS NOT NULL OR r.run_id IS NOT NULL;
    UPDATE webhooks w SET attempt = c.attempt, due_at = c.due_at FROM unnest(changes) c WHERE w.run_id = c.run_id;
    DELETE FROM webhooks WHERE run_id = ANY (ended);
END $$;
ALTER FUNCTION project_webhooks SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION project_webhooks SET enable_seqscan = off;
ALTER FUNCTION project_webhooks SET enable_hashjoin = off;
ALTER FUNCTION project_webhooks SET enable_mergejoin = off;

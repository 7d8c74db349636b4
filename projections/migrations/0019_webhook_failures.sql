-- Webhooks of which an attempt failed and that were not delivered since: waiting for the next one, or dead, which are kept for
-- 30 days of their partition's time. They go with their thread, unless that was gone before (`temporary`).
CREATE TABLE webhook_failures (
    run_id       uuid PRIMARY KEY,
    thread_id    uuid NOT NULL,
    p            int NOT NULL,
    assistant_id uuid,
    url          text NOT NULL,
    run_status   text NOT NULL,                 -- success error timeout interrupted rollback
    temporary    boolean NOT NULL,
    attempt      int NOT NULL,                  -- the last one
    http_status  int,
    reason       text,
    failed_at    timestamptz NOT NULL,
    due_at       timestamptz                    -- of the next attempt; NULL: dead
);
CREATE INDEX webhook_failures_failed ON webhook_failures (failed_at, run_id);
CREATE INDEX webhook_failures_p ON webhook_failures (p, failed_at);
CREATE INDEX webhook_failures_thread ON webhook_failures (thread_id) WHERE NOT temporary;

CREATE TYPE webhook_failure AS (
    run_id uuid, attempt int, http_status int, reason text, failed_at timestamptz, due_at timestamptz
);
CREATE TYPE partition_age AS (p int, at timestamptz);

-- As project_webhooks of three arguments, which processes of earlier versions call. `failures`: the last one of each
-- webhook; one that is requested and given up in the same fold is among `requested`, and in `ended`. `ages`: the times of
-- partitions, by the last failure in the fold, whatever became of it.
CREATE FUNCTION project_webhooks(
    requested webhooks[], changes webhook_change[], ended uuid[], failures webhook_failure[], ages partition_age[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM project_webhooks(requested, changes, '{}');
    IF cardinality(failures) > 0 THEN
        INSERT INTO webhook_failures AS t
            SELECT f.run_id, w.thread_id, w.p, w.assistant_id, w.url, w.status, w.temporary, f.attempt, f.http_status,
                f.reason, f.failed_at, f.due_at
            FROM unnest(failures) f JOIN webhooks w USING (run_id)
            ON CONFLICT (run_id) DO UPDATE SET
                attempt = excluded.attempt, http_status = excluded.http_status, reason = excluded.reason,
                failed_at = excluded.failed_at, due_at = excluded.due_at;
    END IF;
    IF cardinality(ages) > 0 THEN
        DELETE FROM webhook_failures o USING unnest(ages) a
            WHERE o.p = a.p AND o.failed_at < a.at - interval '30 days' AND o.due_at IS NULL;
    END IF;
    IF cardinality(ended) > 0 THEN
        DELETE FROM webhook_failures WHERE run_id = ANY (ended) AND due_at IS NOT NULL;     -- delivered
        DELETE FROM webhooks WHERE run_id = ANY (ended);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION project_removals(
    gone_threads uuid[], gone_runs gone_run[], lost lost_checkpoints[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM project_removals_of_rows(gone_threads, gone_runs, lost);
    IF cardinality(gone_threads) > 0 THEN       -- after the rows: an executor that makes a key holds the thread's
        DELETE FROM webhook_failures WHERE thread_id = ANY (gone_threads) AND NOT temporary;
        PERFORM destroy_keys_of(gone_threads);
    END IF;
END $$;

DO $$
BEGIN
    ALTER FUNCTION project_webhooks(webhooks[], webhook_change[], uuid[], webhook_failure[], partition_age[])
        SET plan_cache_mode = force_generic_plan;
    ALTER FUNCTION project_webhooks(webhooks[], webhook_change[], uuid[], webhook_failure[], partition_age[]) SET enable_seqscan = off;
END $$;

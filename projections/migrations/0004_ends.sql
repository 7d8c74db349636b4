-- What a run's end leaves in the state when no executor reports it: a cancelled run is final before its executor has let go.

ALTER TABLE runs ADD COLUMN cancel_reason text;

-- `tasks_error`: a value reference. `settled` NULL: the run has ended, its unfinished tasks get this error; else its executor
-- has let go, and takes it from those that finished or asked a question before they stopped.
CREATE TYPE run_end AS (run_id uuid, thread_id uuid, cancel_reason text, tasks_error json, settled boolean);

-- In order, and before the rows of the same fold (`projections.fold.project`).
CREATE FUNCTION project_ends(ends run_end[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    e run_end;
BEGIN
    FOREACH e IN ARRAY ends LOOP
        IF e.cancel_reason IS NOT NULL THEN
            UPDATE runs SET cancel_reason = e.cancel_reason WHERE run_id = e.run_id;
        END IF;
        IF e.settled THEN
            DELETE FROM checkpoint_writes m
                WHERE m.thread_id = e.thread_id AND m.run_id = e.run_id AND m.idx = -1
                    AND m.value ->> 'b' = e.tasks_error ->> 'b' AND EXISTS (
                        SELECT FROM checkpoint_writes w
                        WHERE w.thread_id = m.thread_id AND w.ns = m.ns AND w.checkpoint_id = m.checkpoint_id
                            AND w.task_id = m.task_id AND (w.run_id = e.run_id AND w.channel = '__interrupt__'
                                OR w.channel NOT IN ('__error__', '__error_source_node__', '__interrupt__', '__resume__')));
        ELSIF e.tasks_error IS NOT NULL THEN
            -- The newest checkpoint, if the run has put it or written to it: else it has not begun with its tasks, or only
            -- its executor knows.
            INSERT INTO checkpoint_writes AS t (thread_id, ns, checkpoint_id, task_id, idx, channel, value, run_id)
                SELECT c.thread_id, c.ns, c.checkpoint_id, task ->> 'id', -1, '__error__', e.tasks_error, e.run_id
                FROM threads h JOIN checkpoints c
                    ON c.thread_id = h.thread_id AND c.ns = '' AND c.checkpoint_id = h.checkpoint_id,
                    LATERAL json_array_elements(coalesce(c.tasks, '[]')) task
                WHERE h.thread_id = e.thread_id AND task ->> 'id' IS NOT NULL
                    AND (c.run_id = e.run_id OR EXISTS (
                        SELECT FROM checkpoint_writes w WHERE w.thread_id = c.thread_id AND w.ns = c.ns
                            AND w.checkpoint_id = c.checkpoint_id AND w.run_id = e.run_id))
                    AND NOT EXISTS (            -- what has finished, or has failed or asked in this run, is not under way
                        SELECT FROM checkpoint_writes w
                        WHERE w.thread_id = c.thread_id AND w.ns = c.ns AND w.checkpoint_id = c.checkpoint_id
                            AND w.task_id = task ->> 'id' AND (
                                w.run_id = e.run_id AND w.channel IN ('__error__', '__interrupt__')
                                OR w.channel NOT IN ('__error__', '__interrupt__', '__resume__')))
                ON CONFLICT (thread_id, ns, checkpoint_id, task_id, idx) DO UPDATE SET
                    task_path = excluded.task_path, channel = excluded.channel, value = excluded.value,
                    run_id = excluded.run_id;
        END IF;
    END LOOP;
END $$;

ALTER FUNCTION project_ends SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION project_ends SET enable_seqscan = off;

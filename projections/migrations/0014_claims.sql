-- As before; but where no more waits than is asked for, as mostly, all of it is taken with one query: whose turn it is
-- matters only where some have to wait.

-- Gives `claimant` up to `at_most` attempts of these graphs. `last_group`: the one that was served last, the next ones get
-- their turn. `only_known`: claims may be forgotten by a crash, so none is made until all executors alive have checked in.
-- A column for each of what executors need, see `engine.executor.queue`. What it costs grows with at_most and with the
-- priorities in use (11 at most), not with what waits.
CREATE OR REPLACE FUNCTION claim_runs(claimant text, graphs text[], at_most int, last_group text, only_known boolean)
RETURNS TABLE (
    run_id text, thread_id text, p int, kind text, graph_id text, attempt int, fresh boolean, payload json, cancel text,
    assistant_id text, kwargs json, metadata jsonb, temporary boolean, fairness_group text
) LANGUAGE plpgsql
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    left_to_claim int := at_most;
    level         int := NULL;
    line          text;
    lines         text[];
    share         int;
    taken         int;
    asked_for     int;
    more          boolean;
BEGIN
    IF only_known AND EXISTS (
        SELECT FROM executors e WHERE e.lease_until > now()
        AND NOT EXISTS (SELECT FROM executors_here h WHERE h.executor_id = e.executor_id)
    ) THEN
        RETURN;
    END IF;
    IF at_most >= (
        SELECT count(*) FROM (
            SELECT FROM run_queue q WHERE q.owner IS NULL AND q.cancel IS NULL LIMIT at_most + 1
        ) few
    ) THEN
        RETURN QUERY
            WITH free AS MATERIALIZED (
                SELECT f.run_id FROM run_queue f
                WHERE f.owner IS NULL AND f.cancel IS NULL AND f.graph_id = ANY (graphs)
                ORDER BY f.priority, f.fairness_group, f.scheduled_at LIMIT at_most FOR UPDATE SKIP LOCKED
            )
            UPDATE run_queue q SET owner = claimant FROM free LEFT JOIN runs r ON r.run_id = free.run_id
            WHERE q.run_id = free.run_id
            RETURNING q.run_id::text, q.thread_id::text, q.p, q.kind, q.graph_id, q.attempt, q.fresh, q.payload,
                q.cancel, r.assistant_id::text, r.kwargs, r.metadata, r.temporary, q.fairness_group;
        RETURN;
    END IF;
    LOOP
        SELECT q.priority INTO level FROM run_queue q
            WHERE q.owner IS NULL AND q.cancel IS NULL AND (level IS NULL OR q.priority > level)
            ORDER BY q.priority LIMIT 1;
        EXIT WHEN NOT FOUND;
        LOOP                                    -- until nothing of this priority is left
            lines := '{}';                      -- groups with something to claim, behind the last one, then from the first on
            line := last_group;
            FOR wrapped IN 0 .. 1 LOOP
                LOOP
                    EXIT WHEN cardinality(lines) >= left_to_claim;
                    SELECT q.fairness_group INTO line FROM run_queue q
                        WHERE q.owner IS NULL AND q.cancel IS NULL AND q.priority = level AND q.fairness_group > line
                            AND (wrapped = 0 OR q.fairness_group <= last_group) AND q.graph_id = ANY (graphs)
                        ORDER BY q.fairness_group LIMIT 1;
                    EXIT WHEN NOT FOUND;
                    lines := lines || line;
                END LOOP;
                line := '';                     -- no group has this name
            END LOOP;
            EXIT WHEN cardinality(lines) = 0;
            share := greatest(left_to_claim / cardinality(lines), 1);
            more := false;
            FOREACH line IN ARRAY lines LOOP
                asked_for := least(share, left_to_claim);
                RETURN QUERY
                    WITH free AS MATERIALIZED (
                        SELECT f.run_id FROM run_queue f
                        WHERE f.owner IS NULL AND f.cancel IS NULL AND f.priority = level AND f.fairness_group = line
                            AND f.graph_id = ANY (graphs)
                        ORDER BY f.scheduled_at LIMIT asked_for FOR UPDATE SKIP LOCKED
                    )
                    UPDATE run_queue q SET owner = claimant FROM free LEFT JOIN runs r ON r.run_id = free.run_id
                    WHERE q.run_id = free.run_id
                    RETURNING q.run_id::text, q.thread_id::text, q.p, q.kind, q.graph_id, q.attempt, q.fresh, q.payload,
                        q.cancel, r.assistant_id::text, r.kwargs, r.metadata, r.temporary, q.fairness_group;
                GET DIAGNOSTICS taken = ROW_COUNT;
                more := more OR taken = asked_for;
                left_to_claim := left_to_claim - taken;
                last_group := line;
                IF left_to_claim = 0 THEN
                    RETURN;
                END IF;
            END LOOP;
            EXIT WHEN NOT more;                 -- of each group all was taken that others have not locked
        END LOOP;
    END LOOP;
END $$;

-- What a projection batch does to the read models, in one call (one round trip, plans cached per session).
--
-- `projections.fold.batch` folds the events of a batch so that every row is touched once and everything that removes comes
-- before everything that adds; the order of the phases below is part of that contract.
-- Argument types are the tables' own row types where a whole row is written, else the types here.

CREATE TYPE partition_move AS (p int, epoch bigint, log_epoch bigint, ev_off bigint, cmd_off bigint);

-- NULL leaves a column as it is; `error` is replaced when sets_error.
CREATE TYPE thread_change AS (
    thread_id uuid, updated_at timestamptz, state_updated_at timestamptz, metadata jsonb, config json, status text,
    sets_error boolean, error json, interrupts json, ttl json, checkpoint_id text
);
CREATE TYPE run_change AS (
    run_id uuid, updated_at timestamptz, status text, attempt int, error json, frames int
);
CREATE TYPE gone_run AS (run_id uuid, thread_id uuid, at timestamptz, stopping text);
CREATE TYPE lost_checkpoints AS (thread_id uuid, at timestamptz, run_ids uuid[]);  -- run_ids NULL: all but the newest
CREATE TYPE task_plan AS (thread_id uuid, ns text, checkpoint_id text, tasks json, out json, shown json);
CREATE TYPE stop_order AS (run_id uuid, action text);
CREATE TYPE assistant_change AS (
    kind text, at timestamptz, assistant_id uuid, version int, graph_id text, name text, description text,
    config json, context json, metadata jsonb
);

-- Moves the partitions; raises TL001 with the fenced ones as DETAIL when a newer term owns any, or they are further.
CREATE FUNCTION move_partitions(moves partition_move[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    moved int;
    lost  text;
BEGIN
    IF cardinality(moves) > 1 THEN              -- in order: two processes never wait for each other in a circle
        PERFORM FROM partitions t WHERE t.p IN (SELECT m.p FROM unnest(moves) m) ORDER BY t.p FOR NO KEY UPDATE;
    END IF;
    UPDATE partitions t SET ev_off = m.ev_off, cmd_off = m.cmd_off, log_epoch = m.log_epoch
        FROM unnest(moves) m WHERE t.p = m.p AND t.epoch = m.epoch AND t.ev_off < m.ev_off;
    GET DIAGNOSTICS moved = ROW_COUNT;
    IF moved <> cardinality(moves) THEN
        SELECT string_agg(m.p::text, ',' ORDER BY m.p) INTO lost
            FROM unnest(moves) m LEFT JOIN partitions t ON t.p = m.p AND t.epoch = m.epoch AND t.ev_off = m.ev_off
            WHERE t.p IS NULL;
        RAISE EXCEPTION 'fenced' USING ERRCODE = 'TL001', DETAIL = coalesce(lost, '');
    END IF;
END $$;

-- The whole metadata of a checkpoint (engine.stored.row_codec).
CREATE FUNCTION checkpoint_metadata(c checkpoints) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    facts jsonb;
BEGIN
    IF c.parts IS NOT NULL THEN
        SELECT convert_from(data, 'UTF8')::jsonb INTO facts FROM channel_values
            WHERE thread_id = c.thread_id AND hash = split_part(c.parts, ' ', 1);
    END IF;
    IF facts IS NULL THEN
        RETURN c.metadata;
    END IF;
    RETURN (facts - '~run') || coalesce((SELECT jsonb_object_agg(name, c.run_id::text)
        FROM jsonb_array_elements_text(facts -> '~run') AS name), '{}') || c.metadata;
END $$;

-- Values of these threads that no checkpoint and no write refers to any more.
CREATE FUNCTION drop_orphan_values(of_threads uuid[]) RETURNS void LANGUAGE plpgsql SET enable_hashjoin = on AS $$
BEGIN
    DELETE FROM channel_values v WHERE v.thread_id = ANY (of_threads) AND NOT EXISTS (
        SELECT FROM (
            SELECT d.thread_id, r.hash FROM (
                SELECT c.thread_id, jsonb_build_array(c.channels, c.shown, c.tasks, c.out) AS doc
                    FROM checkpoints c WHERE c.thread_id = ANY (of_threads)
                UNION ALL
                SELECT w.thread_id, w.value::jsonb FROM checkpoint_writes w WHERE w.thread_id = ANY (of_threads)
            ) d, LATERAL (
                SELECT jsonb_path_query(d.doc, 'strict $.**.h') #>> '{}' AS hash
                UNION ALL
                SELECT jsonb_path_query(d.doc, 'lax $.**.s[*][0]') #>> '{}'
            ) r
            UNION ALL
            SELECT c.thread_id, part FROM checkpoints c, LATERAL unnest(string_to_array(c.parts, ' ')) part
                WHERE c.thread_id = ANY (of_threads)
            UNION ALL                           -- segments that are named in a list
            SELECT l.thread_id, segment ->> 0 FROM (
                SELECT DISTINCT c.thread_id, part
                    FROM checkpoints c, LATERAL unnest((string_to_array(c.parts, ' '))[2:]) part
                    WHERE c.thread_id = ANY (of_threads)
            ) l JOIN channel_values list ON list.thread_id = l.thread_id AND list.hash = l.part,
                LATERAL json_array_elements(convert_from(list.data, 'UTF8')::json) AS segment
        ) needed WHERE needed.thread_id = v.thread_id AND needed.hash = v.hash
    );
END $$;

CREATE FUNCTION project_removals(
    gone_threads uuid[], gone_runs gone_run[], lost lost_checkpoints[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    thinned uuid[] := '{}';                     -- threads that lost checkpoints but live on
    l       lost_checkpoints;
BEGIN
    IF cardinality(gone_threads) > 0 THEN
        DELETE FROM timers WHERE id IN (SELECT 'due:' || run_id FROM runs WHERE thread_id = ANY (gone_threads));
        -- An executor that holds one of its runs looks at the row, finds none and stops.
        PERFORM pg_notify('threadlog_queue', 'cancel:' || run_id) FROM run_queue
            WHERE thread_id = ANY (gone_threads) AND owner IS NOT NULL;
        DELETE FROM run_queue WHERE thread_id = ANY (gone_threads);
        DELETE FROM runs WHERE thread_id = ANY (gone_threads);
        DELETE FROM checkpoint_writes WHERE thread_id = ANY (gone_threads);
        DELETE FROM checkpoints WHERE thread_id = ANY (gone_threads);
        DELETE FROM channel_values WHERE thread_id = ANY (gone_threads);
        DELETE FROM threads WHERE thread_id = ANY (gone_threads);
    END IF;
    IF cardinality(gone_runs) > 0 THEN
        DELETE FROM runs r USING unnest(gone_runs) g WHERE r.run_id = g.run_id;
        DELETE FROM timers t USING unnest(gone_runs) g WHERE t.id = 'due:' || g.run_id;
        DELETE FROM run_queue q USING unnest(gone_runs) g WHERE q.run_id = g.run_id AND g.stopping IS NULL;
        UPDATE run_queue q SET cancel = g.stopping FROM unnest(gone_runs) g
            WHERE q.run_id = g.run_id AND g.stopping IS NOT NULL;
        lost := lost || ARRAY(SELECT ROW (thread_id, at, ARRAY[run_id])::lost_checkpoints FROM unnest(gone_runs));
    END IF;
    FOREACH l IN ARRAY lost LOOP
        IF l.run_ids IS NULL THEN
            -- The newest of each namespace stays, and the ancestors that its delta channels are rebuilt from: up to
            -- where each has a stored value.
            WITH RECURSIVE newest AS (
                SELECT DISTINCT ON (ns) ns, checkpoint_id, parent_id, channels, checkpoint -> 'channel_versions' AS written,
                    CASE jsonb_typeof(metadata -> 'counters_since_delta_snapshot') WHEN 'object'
                        THEN metadata -> 'counters_since_delta_snapshot' ELSE '{}' END AS deltas
                FROM checkpoints WHERE thread_id = l.thread_id ORDER BY ns, checkpoint_id DESC
            ), kept AS (
                SELECT n.ns, n.checkpoint_id, n.parent_id, ARRAY(
                    SELECT d FROM jsonb_object_keys(n.deltas) d
                    WHERE n.channels -> d IS NULL AND n.written -> d IS NOT NULL) AS missing
                FROM newest n
                UNION ALL
                SELECT p.ns, p.checkpoint_id, p.parent_id,
                    ARRAY(SELECT d FROM unnest(k.missing) d WHERE p.channels -> d IS NULL)
                FROM kept k JOIN checkpoints p
                    ON p.thread_id = l.thread_id AND p.ns = k.ns AND p.checkpoint_id = k.parent_id
                WHERE cardinality(k.missing) > 0
            )
            DELETE FROM checkpoints c WHERE c.thread_id = l.thread_id AND NOT EXISTS (
                SELECT FROM kept k WHERE k.ns = c.ns AND k.checkpoint_id = c.checkpoint_id);
        ELSE
            DELETE FROM checkpoint_writes WHERE thread_id = l.thread_id AND run_id = ANY (l.run_ids);
            DELETE FROM checkpoints WHERE thread_id = l.thread_id AND run_id = ANY (l.run_ids);
        END IF;
        DELETE FROM checkpoint_writes w WHERE w.thread_id = l.thread_id AND NOT EXISTS (
            SELECT FROM checkpoints c
            WHERE c.thread_id = w.thread_id AND c.ns = w.ns AND c.checkpoint_id = w.checkpoint_id);
        UPDATE threads t SET checkpoint_id = n.newest, state_updated_at = l.at FROM (
            SELECT max(checkpoint_id) AS newest FROM checkpoints WHERE thread_id = l.thread_id AND ns = '') n
            WHERE t.thread_id = l.thread_id AND t.checkpoint_id IS DISTINCT FROM n.newest;
        thinned := thinned || l.thread_id;
    END LOOP;
    -- A run in flight may refer, in what it has not reported yet, to values it has read from checkpoints that are gone.
    -- (Whether it has been claimed is not history: a rebuild would not know.)
    thinned := ARRAY(SELECT t FROM unnest(thinned) t WHERE NOT EXISTS (
        SELECT FROM run_queue q WHERE q.thread_id = t AND (q.cancel IS NULL OR q.cancel = 'interrupt')));
    IF cardinality(thinned) > 0 THEN
        PERFORM drop_orphan_values(thinned);
    END IF;
END $$;

CREATE FUNCTION project_assistants(changes assistant_change[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    c assistant_change;
    a assistants;
BEGIN
    FOREACH c IN ARRAY changes LOOP
        IF c.kind = 'created' THEN
            INSERT INTO assistants VALUES (
                c.assistant_id, c.graph_id, c.name, c.description, c.config, c.context, c.metadata, 1, c.at, c.at);
            INSERT INTO assistant_versions VALUES (
                c.assistant_id, 1, c.graph_id, c.name, c.description, c.config, c.context, c.metadata, c.at);
        ELSIF c.kind = 'updated' THEN
            UPDATE assistants t SET
                graph_id = coalesce(c.graph_id, t.graph_id), name = coalesce(c.name, t.name),
                description = coalesce(c.description, t.description), config = coalesce(c.config, t.config),
                context = coalesce(c.context, t.context), metadata = t.metadata || coalesce(c.metadata, '{}'),
                version = c.version, updated_at = c.at
                WHERE assistant_id = c.assistant_id RETURNING t.* INTO a;
            IF FOUND THEN
                INSERT INTO assistant_versions VALUES (
                    a.assistant_id, a.version, a.graph_id, a.name, a.description, a.config, a.context, a.metadata, c.at);
            END IF;
        ELSIF c.kind = 'latest_set' THEN
            UPDATE assistants t SET
                graph_id = v.graph_id, name = v.name, description = v.description, config = v.config,
                context = v.context, metadata = v.metadata, version = v.version, updated_at = c.at
                FROM assistant_versions v
                WHERE t.assistant_id = c.assistant_id AND v.assistant_id = c.assistant_id AND v.version = c.version;
        ELSE
            DELETE FROM assistant_versions WHERE assistant_id = c.assistant_id;
            DELETE FROM assistants WHERE assistant_id = c.assistant_id;
        END IF;
    END LOOP;
END $$;

-- Arguments that are NULL have no rows.
CREATE FUNCTION project_rows(
    gone_threads uuid[], gone_runs gone_run[], lost lost_checkpoints[],
    new_threads threads[], thread_changes thread_change[],
    new_runs runs[], run_changes run_change[],
    queued run_queue[], stops stop_order[], unqueued uuid[],
    new_timers timers[], fired text[],
    new_checkpoints checkpoints[], plans task_plan[], new_writes checkpoint_writes[], new_values channel_values[],
    assistant_changes assistant_change[], new_graphs graphs[], new_aggregates aggregates[],
    notices text[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF gone_threads IS NOT NULL OR gone_runs IS NOT NULL OR lost IS NOT NULL THEN
        PERFORM project_removals(gone_threads, gone_runs, coalesce(lost, '{}'));
    END IF;
    IF new_threads IS NOT NULL THEN
        INSERT INTO threads SELECT * FROM unnest(new_threads);
    END IF;
    IF thread_changes IS NOT NULL THEN
        UPDATE threads t SET
            updated_at = coalesce(u.updated_at, t.updated_at),
            state_updated_at = CASE WHEN u.checkpoint_id > coalesce(t.checkpoint_id, '')
                THEN u.state_updated_at ELSE t.state_updated_at END,
            checkpoint_id = greatest(t.checkpoint_id, u.checkpoint_id),
            metadata = CASE WHEN u.metadata IS NULL THEN t.metadata ELSE t.metadata || u.metadata END,
            config = coalesce(u.config, t.config),
            status = coalesce(u.status, t.status),
            error = CASE WHEN u.sets_error THEN u.error ELSE t.error END,
            interrupts = coalesce(u.interrupts, t.interrupts),
            ttl = coalesce(u.ttl, t.ttl)
            FROM unnest(thread_changes) u WHERE t.thread_id = u.thread_id;
    END IF;
    IF new_runs IS NOT NULL THEN
        INSERT INTO runs SELECT * FROM unnest(new_runs);
    END IF;
    IF run_changes IS NOT NULL THEN        -- a final status is never changed
        UPDATE runs t SET
            updated_at = CASE WHEN t.status IN ('pending', 'running') THEN coalesce(u.updated_at, t.updated_at)
                ELSE t.updated_at END,
            status = CASE WHEN t.status IN ('pending', 'running') THEN coalesce(u.status, t.status) ELSE t.status END,
            error = CASE WHEN t.status IN ('pending', 'running') THEN coalesce(u.error, t.error) ELSE t.error END,
            attempt = coalesce(u.attempt, t.attempt),
            frames = coalesce(u.frames, t.frames)
            FROM unnest(run_changes) u WHERE t.run_id = u.run_id;
    END IF;
    IF queued IS NOT NULL THEN
        INSERT INTO run_queue AS t
            SELECT q.run_id, q.thread_id, q.p, q.kind, coalesce(q.graph_id, r.graph_id, o.graph_id), q.attempt,
                q.scheduled_at, q.fresh, q.payload, q.cancel, q.owner
            FROM unnest(queued) q LEFT JOIN runs r ON q.graph_id IS NULL AND r.run_id = q.run_id
                LEFT JOIN run_queue o ON q.graph_id IS NULL AND o.run_id = q.run_id
            ON CONFLICT (run_id) DO UPDATE SET
                attempt = excluded.attempt, scheduled_at = excluded.scheduled_at, fresh = excluded.fresh,
                payload = coalesce(excluded.payload, t.payload), cancel = excluded.cancel, owner = NULL;
    END IF;
    IF stops IS NOT NULL THEN
        UPDATE run_queue t SET cancel = s.action FROM unnest(stops) s WHERE t.run_id = s.run_id;
    END IF;
    IF unqueued IS NOT NULL THEN
        DELETE FROM run_queue WHERE run_id = ANY (unqueued);
    END IF;
    IF fired IS NOT NULL THEN
        DELETE FROM timers WHERE id = ANY (fired);
    END IF;
    IF new_timers IS NOT NULL THEN
        INSERT INTO timers SELECT * FROM unnest(new_timers) ON CONFLICT (id) DO NOTHING;
    END IF;
    IF new_checkpoints IS NOT NULL THEN
        INSERT INTO checkpoints AS t SELECT * FROM unnest(new_checkpoints)
            ON CONFLICT (thread_id, ns, checkpoint_id) DO UPDATE SET
                parent_id = excluded.parent_id, run_id = excluded.run_id, created_at = excluded.created_at,
                metadata = excluded.metadata, checkpoint = excluded.checkpoint, channels = excluded.channels,
                parts = excluded.parts,
                tasks = coalesce(excluded.tasks, t.tasks), out = coalesce(excluded.out, t.out),
                shown = coalesce(excluded.shown, t.shown);
    END IF;
    IF plans IS NOT NULL THEN
        UPDATE checkpoints t SET
            tasks = coalesce(u.tasks, t.tasks), out = coalesce(u.out, t.out), shown = coalesce(u.shown, t.shown)
            FROM unnest(plans) u
            WHERE t.thread_id = u.thread_id AND t.ns = u.ns AND t.checkpoint_id = u.checkpoint_id;
    END IF;
    IF new_writes IS NOT NULL THEN
        INSERT INTO checkpoint_writes AS t SELECT * FROM unnest(new_writes)
            ON CONFLICT (thread_id, ns, checkpoint_id, task_id, idx) DO UPDATE SET
                task_path = excluded.task_path, channel = excluded.channel, value = excluded.value,
                run_id = excluded.run_id
                WHERE excluded.idx < 0;
    END IF;
    IF new_values IS NOT NULL THEN
        INSERT INTO channel_values SELECT * FROM unnest(new_values) ON CONFLICT (thread_id, hash) DO NOTHING;
    END IF;
    IF assistant_changes IS NOT NULL THEN
        PERFORM project_assistants(assistant_changes);
    END IF;
    IF new_graphs IS NOT NULL THEN
        INSERT INTO graphs SELECT * FROM unnest(new_graphs) ON CONFLICT (graph_id) DO UPDATE SET
            digest = excluded.digest, info = excluded.info, updated_at = excluded.updated_at;
    END IF;
    IF new_aggregates IS NOT NULL THEN
        INSERT INTO aggregates SELECT * FROM unnest(new_aggregates) ON CONFLICT (key) DO UPDATE SET
            state = excluded.state, deleted_at = excluded.deleted_at;
    END IF;
    IF notices IS NOT NULL THEN            -- channel and payload in turn
        FOR i IN 1 .. cardinality(notices) BY 2 LOOP
            PERFORM pg_notify(notices[i], notices[i + 1]);
        END LOOP;
    END IF;
END $$;

-- Answers the offsets an append got. Raises TL002 unless the first of them (those of commands and events) are the ones it
-- was decided for: others have appended meanwhile.
CREATE FUNCTION expect_offsets(got bigint[], expected bigint[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
BEGIN
    IF got[1 : cardinality(expected)] IS DISTINCT FROM expected THEN
        RAISE EXCEPTION 'the heads have moved' USING ERRCODE = 'TL002';
    END IF;
    RETURN got;
END $$;

-- The statements above are planned once per session. Left alone, the server would plan each anew every time, because it
-- estimates the arrays' lengths only then (ten times the cost of running them); and a plan made while a table was empty
-- would scan it all until the next ANALYZE.
DO $$
DECLARE
    f text;
BEGIN
    FOREACH f IN ARRAY ARRAY['move_partitions', 'project_removals', 'project_assistants', 'project_rows'] LOOP
        EXECUTE format('ALTER FUNCTION %I SET plan_cache_mode = force_generic_plan', f);
        EXECUTE format('ALTER FUNCTION %I SET enable_seqscan = off', f);
        EXECUTE format('ALTER FUNCTION %I SET enable_hashjoin = off', f);
        EXECUTE format('ALTER FUNCTION %I SET enable_mergejoin = off', f);
    END LOOP;
END $$;

-- The transaction of one command, as nearly all are where there is little to do: what `move_partitions`, `log_append` and
-- `expect_offsets` do for any number of them, a fifth cheaper for Postgres. The command gets `command_off`, its event
-- `event_off`, frames of the same thread the next offsets of `stream` (NULL: there are none). Locks in the order of
-- `log_append`. Answers the first frame's offset (NULL), and the time of all records in milliseconds since the epoch.
-- Raises TL001 when the partition is another's, TL002 when others have appended meanwhile.
CREATE FUNCTION commit_one(
    p_ int, epoch_ bigint, log_epoch_ bigint, command_off bigint, event_off bigint,
    key_ text, command bytea, event bytea, frames bytea[]
) RETURNS bigint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    now_  timestamptz;
    frame bigint;
BEGIN
    UPDATE partitions t SET ev_off = event_off, cmd_off = command_off, log_epoch = log_epoch_
        WHERE t.p = p_ AND t.epoch = epoch_ AND t.ev_off < event_off;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'fenced' USING ERRCODE = 'TL001', DETAIL = p_;
    END IF;
    IF frames IS NOT NULL AND NOT EXISTS (SELECT FROM log_alive) THEN
        PERFORM log_skip_forgotten();
    END IF;
    UPDATE log_heads SET head = head + 1 WHERE topic = 'commands' AND partition = p_ AND head = command_off;
    IF FOUND THEN
        UPDATE log_heads SET head = head + 1 WHERE topic = 'events' AND partition = p_ AND head = event_off;
    END IF;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the heads have moved' USING ERRCODE = 'TL002';
    END IF;
    IF frames IS NOT NULL THEN
        UPDATE log_heads SET head = head + cardinality(frames) WHERE topic = 'stream' AND partition = p_
            RETURNING head - cardinality(frames) INTO STRICT frame;
    END IF;
    now_ := clock_timestamp();
    INSERT INTO log_commands (partition, off, at, key, value) VALUES (p_, command_off, now_, key_, command);
    INSERT INTO log_events (partition, off, at, key, value) VALUES (p_, event_off, now_, key_, event);
    IF frames IS NOT NULL THEN
        INSERT INTO log_stream (partition, off, at, key, value)
            SELECT p_, frame + r.i - 1, now_, key_, r.v FROM unnest(frames) WITH ORDINALITY AS r (v, i);
    END IF;
    IF coalesce(current_setting('threadlog.quiet', true), '') <> 'on' THEN
        PERFORM pg_notify('threadlog_log', concat_ws(',', 'commands:' || p_ || ':' || command_off + 1,
            'events:' || p_ || ':' || event_off + 1, 'stream:' || p_ || ':' || frame + cardinality(frames)));
    END IF;
    RETURN ARRAY[frame, (date_part('epoch', now_) * 1000)::bigint];
END $$;

-- The log in Postgres: one row per record, offsets without gaps from a head row per topic-partition.
-- Idempotent; applied by PostgresLog.create under an advisory lock, in the connection's search_path.

CREATE TABLE IF NOT EXISTS log_settings (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    partitions int NOT NULL                     -- fixed when the log was created: the partition of a key never changes
);

-- Appending updates the head, so appends to one topic-partition are ordered by its row lock: a record is visible only
-- after all records before it are. Rows are locked in (topic, partition) order everywhere, so appends cannot deadlock.
CREATE TABLE IF NOT EXISTS log_heads (
    topic     text COLLATE "C" NOT NULL,
    partition int NOT NULL,
    head      bigint NOT NULL DEFAULT 0,        -- offset of the next record
    first     bigint NOT NULL DEFAULT 0,        -- first retained offset; rows below it count as gone already
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 20);                       -- every append updates a head: room for versions on the page (HOT)

-- Its row vanishes with a crash of the server, and only then: recovery empties unlogged tables. Appends of stream
-- records alone do not wait for the disk (synchronous_commit = off), so a crash may forget the last of them, their
-- offsets included.
CREATE UNLOGGED TABLE IF NOT EXISTS log_alive (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row)
);

DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['commands', 'events', 'stream', 'values'] LOOP
        CONTINUE WHEN to_regclass('log_' || t) IS NOT NULL;  -- ALTER TABLE would lock out those that append
        EXECUTE format(
            'CREATE TABLE log_%s (
                partition int NOT NULL,
                off       bigint NOT NULL,
                at        timestamptz NOT NULL,   -- never decreases with off: taken while the head is locked
                key       text NOT NULL,
                value     bytea NOT NULL,
                PRIMARY KEY (partition, off)
            )', t);
        -- Records are written once and read a few times: compression by the server costs more than it saves
        -- (pglz: 10 ms CPU per MB), and what is large in them is compressed already.
        EXECUTE format('ALTER TABLE log_%s ALTER COLUMN value SET STORAGE EXTERNAL', t);
    END LOOP;
    -- Two records of a page stay in the table, where the server would put what is above 2 KB into another one: reports
    -- with a few messages are of that size, and cost it half as much to write and to read like this (2.5 KB: 83 -> 43 µs
    -- and 8 -> 3 µs of CPU).
    FOREACH t IN ARRAY ARRAY['commands', 'events', 'stream', 'values'] LOOP
        CONTINUE WHEN EXISTS (
            SELECT FROM pg_class WHERE oid = ('log_' || t)::regclass AND reloptions @> ARRAY['toast_tuple_target=4080']);
        EXECUTE format('ALTER TABLE log_%s SET (toast_tuple_target = 4080)', t);
    END LOOP;
END $$;

-- After a crash: stream offsets that readers may have seen must not be used for other records. Goes ahead by more than
-- can have been forgotten (wal_writer_delay x 3 is 0.6 s of appends).
CREATE OR REPLACE FUNCTION log_skip_forgotten() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1953000560);  -- "thlp": one of those that find it out together
    IF NOT EXISTS (SELECT FROM log_alive) THEN
        UPDATE log_heads SET head = head + 1000000 WHERE topic = 'stream';
        INSERT INTO log_alive DEFAULT VALUES;
    END IF;
END $$;

-- A process whose readers are itself sets threadlog.quiet and notifies others of many appends at once: a notification
-- makes commits wait for each other, and wakes every session that listens to anything.

-- Appends records and answers with the offset of each group's first record, then the time of all of them in milliseconds
-- since the epoch: whoever appended hands the records on to its own readers with the time that others read. A group is a topic-partition with a count
-- of records; groups are sorted; the records follow in the groups' order, r_group says which group (from 1) each is of.
-- Left alone, the server would plan the statements anew every time: it estimates the arrays' lengths only then.
CREATE OR REPLACE FUNCTION log_append(
    g_topics text[], g_partitions int[], g_counts int[], r_group int[], r_keys text[], r_values bytea[]
) RETURNS bigint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    bases  bigint[] := '{}';
    starts bigint[] := '{}';                    -- base offset minus the ordinal of the record before the group
    n      bigint := 0;
    h      bigint;
    moved  text := '';
    quiet  boolean := coalesce(current_setting('threadlog.quiet', true), '') = 'on';
    now_   timestamptz;
BEGIN
    IF 'stream' = ANY (g_topics) AND NOT EXISTS (SELECT FROM log_alive) THEN
        PERFORM log_skip_forgotten();
    END IF;
    FOR g IN 1 .. cardinality(g_topics) LOOP
        UPDATE log_heads SET head = head + g_counts[g]
            WHERE topic = g_topics[g] AND partition = g_partitions[g] RETURNING head INTO STRICT h;
        bases := bases || (h - g_counts[g]);
        starts := starts || (h - g_counts[g] - n - 1);
        n := n + g_counts[g];
        IF NOT quiet AND g_topics[g] <> 'values' THEN  -- nobody tails values: they are read where an event points at them
            moved := moved || ',' || g_topics[g] || ':' || g_partitions[g] || ':' || h;
            IF length(moved) > 7000 THEN        -- the limit of a notification is 8000 bytes
                PERFORM pg_notify('threadlog_log', substr(moved, 2));
                moved := '';
            END IF;
        END IF;
    END LOOP;
    now_ := clock_timestamp();
    IF 'commands' = ANY (g_topics) THEN
        INSERT INTO log_commands (partition, off, at, key, value)
            SELECT g_partitions[g], starts[g] + i, now_, k, v
            FROM unnest(r_group, r_keys, r_values) WITH ORDINALITY AS r (g, k, v, i) WHERE g_topics[g] = 'commands';
    END IF;
    IF 'events' = ANY (g_topics) THEN
        INSERT INTO log_events (partition, off, at, key, value)
            SELECT g_partitions[g], starts[g] + i, now_, k, v
            FROM unnest(r_group, r_keys, r_values) WITH ORDINALITY AS r (g, k, v, i) WHERE g_topics[g] = 'events';
    END IF;
    IF 'stream' = ANY (g_topics) THEN
        INSERT INTO log_stream (partition, off, at, key, value)
            SELECT g_partitions[g], starts[g] + i, now_, k, v
            FROM unnest(r_group, r_keys, r_values) WITH ORDINALITY AS r (g, k, v, i) WHERE g_topics[g] = 'stream';
    END IF;
    IF 'values' = ANY (g_topics) THEN
        INSERT INTO log_values (partition, off, at, key, value)
            SELECT g_partitions[g], starts[g] + i, now_, k, v
            FROM unnest(r_group, r_keys, r_values) WITH ORDINALITY AS r (g, k, v, i) WHERE g_topics[g] = 'values';
    END IF;
    IF moved <> '' THEN
        PERFORM pg_notify('threadlog_log', substr(moved, 2));
    END IF;
    RETURN bases || (date_part('epoch', now_) * 1000)::bigint;
END $$;

-- The same for a single record, which most appends are when there is little to do; answers with its offset and time.
CREATE OR REPLACE FUNCTION log_append_record(t text, p int, k text, v bytea) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    h    bigint;
    now_ timestamptz;
    at   bigint[];
BEGIN
    IF t = 'stream' AND NOT EXISTS (SELECT FROM log_alive) THEN
        PERFORM log_skip_forgotten();
    END IF;
    UPDATE log_heads SET head = head + 1 WHERE topic = t AND partition = p RETURNING head - 1 INTO STRICT h;
    now_ := clock_timestamp();
    at := ARRAY[h, (date_part('epoch', now_) * 1000)::bigint];
    IF t = 'commands' THEN
        INSERT INTO log_commands (partition, off, at, key, value) VALUES (p, h, now_, k, v);
    ELSIF t = 'events' THEN
        INSERT INTO log_events (partition, off, at, key, value) VALUES (p, h, now_, k, v);
    ELSIF t = 'stream' THEN
        INSERT INTO log_stream (partition, off, at, key, value) VALUES (p, h, now_, k, v);
    ELSE
        INSERT INTO log_values (partition, off, at, key, value) VALUES (p, h, now_, k, v);
        RETURN at;                              -- not notified, as above
    END IF;
    IF coalesce(current_setting('threadlog.quiet', true), '') <> 'on' THEN
        PERFORM pg_notify('threadlog_log', t || ':' || p || ':' || (h + 1));
    END IF;
    RETURN at;
END $$;

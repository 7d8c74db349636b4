-- Data keys go with the threads that a fold deletes, also with those that it never wrote as they are created in it, too.
DROP TRIGGER destroy_data_keys ON threads;

-- With the log in Kafka the topic `keys` holds the keys as well, so that Postgres can be lost without them. NULL: it is not
-- used; `coming`: a record may be on its way; `there`: it is.
ALTER TABLE data_keys ADD COLUMN topic text;

-- Keys whose records in the topic have to be deleted: by a tombstone at once and, for one that was on its way, by another.
CREATE TABLE destroyed_keys (
    owner        text NOT NULL,
    key_id       bytea NOT NULL PRIMARY KEY,
    destroyed_at timestamptz NOT NULL DEFAULT now(),
    told         boolean NOT NULL DEFAULT false -- the first tombstone is there
);

CREATE FUNCTION destroy_keys_of(of_threads uuid[]) RETURNS void LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM data_keys k USING unnest(of_threads) t WHERE k.owner = t::text
            AND NOT EXISTS (SELECT FROM threads WHERE thread_id = t)
            AND NOT EXISTS (SELECT FROM webhooks WHERE thread_id = t)
        RETURNING k.owner, k.key_id, k.topic
    )
    INSERT INTO destroyed_keys (owner, key_id) SELECT owner, key_id FROM gone WHERE topic IS NOT NULL
        ON CONFLICT DO NOTHING
$$;

ALTER FUNCTION project_removals RENAME TO project_removals_of_rows;
CREATE FUNCTION project_removals(
    gone_threads uuid[], gone_runs gone_run[], lost lost_checkpoints[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM project_removals_of_rows(gone_threads, gone_runs, lost);
    IF cardinality(gone_threads) > 0 THEN       -- after the rows: an executor that makes a key holds the thread's
        PERFORM destroy_keys_of(gone_threads);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION destroy_data_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM destroy_keys_of(ARRAY(SELECT DISTINCT thread_id FROM gone));
    RETURN NULL;
END $$;

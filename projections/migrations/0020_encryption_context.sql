-- The encryption context in which a data key was made, readable: the application's handlers get it back to decrypt the key.
ALTER TABLE data_keys ADD COLUMN context json;

-- As before (0015), and of a thread that is gone only what was the thread's: a cron may have the same id.
CREATE OR REPLACE FUNCTION destroy_keys_of(of_threads uuid[]) RETURNS void LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM data_keys k USING unnest(of_threads) t WHERE k.owner = t::text
            AND NOT EXISTS (SELECT FROM threads WHERE thread_id = t)
            AND NOT EXISTS (SELECT FROM webhooks WHERE thread_id = t)
            AND NOT EXISTS (SELECT FROM crons WHERE cron_id = t)
        RETURNING k.owner, k.key_id, k.topic
    )
    INSERT INTO destroyed_keys (owner, key_id) SELECT owner, key_id FROM gone WHERE topic IS NOT NULL
        ON CONFLICT DO NOTHING
$$;

-- What clients give assistants is encrypted with a key of the assistant's own, which goes with it.
CREATE FUNCTION destroy_keys_of_assistants() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH removed AS (
        DELETE FROM data_keys k USING gone g WHERE k.owner = 'assistant:' || g.assistant_id
        RETURNING k.owner, k.key_id, k.topic
    )
    INSERT INTO destroyed_keys (owner, key_id) SELECT owner, key_id FROM removed WHERE topic IS NOT NULL
        ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER destroy_data_keys AFTER DELETE ON assistants REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION destroy_keys_of_assistants();

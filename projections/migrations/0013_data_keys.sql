-- Data keys, encrypted with the installation's key (engine.encryption.keys). Not history: not among the events, which are
-- kept for ever, and not rebuilt. A thread's key goes with the thread: nothing else of its content need be found.
CREATE TABLE data_keys (
    owner      text PRIMARY KEY,                -- the thread's id
    key_id     bytea NOT NULL UNIQUE,           -- what ciphertext names the key by
    wrapped    bytea NOT NULL,
    wrapped_by text NOT NULL,                   -- name of the installation's key
    created_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50);  -- what is deleted soon leaves the file

-- A webhook that is still to be sent says what the run was about: the key stays until then.
CREATE FUNCTION destroy_data_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM data_keys k USING gone g WHERE k.owner = g.thread_id::text
        AND NOT EXISTS (SELECT FROM threads t WHERE t.thread_id = g.thread_id)
        AND NOT EXISTS (SELECT FROM webhooks w WHERE w.thread_id = g.thread_id);
    RETURN NULL;
END $$;
-- Triggers, not a part of the fold: whatever deletes the rows, the key goes in the same transaction, after them. (An
-- executor that makes a key for a thread meanwhile holds the thread's row.)
CREATE TRIGGER destroy_data_keys AFTER DELETE ON threads REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION destroy_data_keys();
CREATE TRIGGER destroy_data_keys AFTER DELETE ON webhooks REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION destroy_data_keys();

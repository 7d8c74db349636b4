-- What a cron's runs are asked is encrypted with a key of the cron's own, which goes with it.
CREATE FUNCTION destroy_keys_of_crons() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM destroy_keys_of(ARRAY(SELECT cron_id FROM gone));
    RETURN NULL;
END $$;
CREATE TRIGGER destroy_data_keys AFTER DELETE ON crons REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION destroy_keys_of_crons();

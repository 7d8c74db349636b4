-- Raises TL003 when an aggregate is known that was decided for as one that is not. Before the functions that project.
CREATE FUNCTION expect_unknown(aggregate text) RETURNS void LANGUAGE plpgsql
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    IF EXISTS (SELECT FROM aggregates a WHERE a.key = aggregate) THEN
        RAISE EXCEPTION 'the aggregate is known' USING ERRCODE = 'TL003';
    END IF;
END $$;

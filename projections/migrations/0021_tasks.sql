-- An assistant's runs by their last change: the tasks that A2A lists.
CREATE INDEX runs_assistant_updated ON runs (assistant_id, updated_at, run_id);

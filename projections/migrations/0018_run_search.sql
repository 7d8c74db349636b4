-- Runs of all threads, searched by status, assistant, graph, metadata and time, newest or oldest first. A search is a range
-- of one of these per status (projections.queries.run_search), so that a page costs what it holds.
CREATE INDEX runs_status ON runs (status, created_at, run_id);
CREATE INDEX runs_assistant ON runs (assistant_id, status, created_at, run_id);
CREATE INDEX runs_graph ON runs (graph_id, status, created_at, run_id);
DROP INDEX runs_in_flight;                      -- runs_status begins alike
-- Of ended runs, so that a run is entered once; those in flight are few.
CREATE INDEX runs_metadata ON runs USING gin (metadata jsonb_path_ops) WITH (gin_pending_list_limit = 256)
    WHERE status NOT IN ('pending', 'running');

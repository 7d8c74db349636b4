-- The runs that continue a task of A2A, by their task: few, and of most applications none. An id has 36 characters; what
-- a client writes into the metadata of its run instead may be longer than an index takes.
CREATE INDEX runs_a2a_task ON runs (assistant_id, thread_id, left(metadata->>'a2a_task', 36), run_id)
    WHERE metadata ? 'a2a_task';

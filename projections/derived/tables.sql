-- Derived tables: counted from the events by `threadlog derive`, dropped and counted anew by `threadlog derive --anew`.
-- Idempotent; applied by DerivedTables.open under an advisory lock.

CREATE SCHEMA IF NOT EXISTS threadlog_derived;

-- Where each partition of `events` is, moved in the transaction that counts. What comes again is below `next`.
CREATE TABLE IF NOT EXISTS threadlog_derived.positions (
    partition int PRIMARY KEY,
    next      bigint NOT NULL
);

ALTER TABLE threadlog_derived.positions ADD COLUMN IF NOT EXISTS at timestamptz;      -- of the last record counted

-- When a worker was last alive: sums are complete up to then, not just up to the last event.
CREATE TABLE IF NOT EXISTS threadlog_derived.worker (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    alive timestamptz NOT NULL
);

-- Every run: while it is in flight, to know at its end whose it was; then for `threadlog usage --runs`.
CREATE TABLE IF NOT EXISTS threadlog_derived.runs (
    run_id       text PRIMARY KEY,
    thread_id    text NOT NULL,
    graph_id     text NOT NULL,
    assistant_id text NOT NULL,
    actor        text NOT NULL,
    tags         text[] NOT NULL,
    created_at   timestamptz NOT NULL,
    started_at   timestamptz,
    ended_at     timestamptz,
    status       text,                            -- NULL: not decided
    attempts     int NOT NULL DEFAULT 0,
    usage        jsonb NOT NULL DEFAULT '{}',     -- {model: {kind of token: count}}, of all attempts
    cost         numeric NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS runs_in_flight ON threadlog_derived.runs (thread_id) WHERE ended_at IS NULL;
CREATE INDEX IF NOT EXISTS runs_ended ON threadlog_derived.runs (ended_at);

-- Tumbling windows of an hour, by when attempts and runs ended. A dimension is all, assistant, graph, user or tag.
CREATE TABLE IF NOT EXISTS threadlog_derived.run_windows (
    start        timestamptz NOT NULL,
    dimension    text NOT NULL,
    value        text NOT NULL,
    runs         bigint NOT NULL,
    succeeded    bigint NOT NULL,
    failed       bigint NOT NULL,
    attempts     bigint NOT NULL,
    wait_seconds double precision NOT NULL,
    run_seconds  double precision NOT NULL,
    PRIMARY KEY (dimension, value, start)
);

ALTER TABLE threadlog_derived.run_windows
    ADD COLUMN IF NOT EXISTS timed_out bigint NOT NULL DEFAULT 0,     -- of those that failed
    ADD COLUMN IF NOT EXISTS interrupted bigint NOT NULL DEFAULT 0,   -- cancelled
    ADD COLUMN IF NOT EXISTS wait_max double precision NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS run_max double precision NOT NULL DEFAULT 0;

-- How long the runs of a window waited and executed, counted in buckets (projections.derived.usage.bucket_of).
CREATE TABLE IF NOT EXISTS threadlog_derived.duration_windows (
    start     timestamptz NOT NULL,
    dimension text NOT NULL,
    value     text NOT NULL,
    kind      text NOT NULL,                      -- wait: from its creation to its start; run: from there to its end
    bucket    int NOT NULL,
    runs      bigint NOT NULL,
    PRIMARY KEY (dimension, value, start, kind, bucket)
);

CREATE TABLE IF NOT EXISTS threadlog_derived.usage_windows (
    start             timestamptz NOT NULL,
    dimension         text NOT NULL,
    value             text NOT NULL,
    model             text NOT NULL,
    calls             bigint NOT NULL,
    input_tokens      bigint NOT NULL,
    output_tokens     bigint NOT NULL,
    total_tokens      bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    reasoning_tokens  bigint NOT NULL,
    unpriced_calls    bigint NOT NULL,            -- of models that the price table did not have
    cost              numeric NOT NULL,
    PRIMARY KEY (dimension, value, start, model)
);

-- Where there is THREADLOG_EXPORT_DIR: runs that ended and are in no file yet. A batch is one file, whose name is made of it;
-- its rows go when the file is there, so a crash in between writes the same file again.
CREATE TABLE IF NOT EXISTS threadlog_derived.export_batches (
    batch bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at    timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE IF NOT EXISTS threadlog_derived.ended_runs (
    partition int NOT NULL,
    "offset"  bigint NOT NULL,                    -- of the record that ended the run
    idx       int NOT NULL,
    line      text NOT NULL,
    batch     bigint,
    PRIMARY KEY (partition, "offset", idx)
);
CREATE INDEX IF NOT EXISTS ended_runs_batch ON threadlog_derived.ended_runs (batch);

-- Windows whose file lacks something.
CREATE TABLE IF NOT EXISTS threadlog_derived.changed_windows (
    start timestamptz PRIMARY KEY
);

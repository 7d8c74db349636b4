-- Read models, all rebuilt from the log, and the coordination rows (partitions, executors, leases) that are not.
-- Created in the connection's search_path, so that a rebuild can fill the same tables in a scratch schema.

-- One row per partition: who owns it, and how far the read models are. The guard of every projection transaction.
CREATE TABLE partitions (
    p           int PRIMARY KEY,
    epoch       bigint NOT NULL DEFAULT 0,      -- bumped by every take-over
    log_epoch   bigint NOT NULL DEFAULT 0,      -- highest epoch announced in the projected part of events[p]
    owner       text,                           -- a processor; whose lease has passed owns nothing
    ev_off      bigint NOT NULL DEFAULT -1,     -- last projected offset of events[p]
    cmd_off     bigint NOT NULL DEFAULT -1      -- last command decided in the projected part of events[p]
) WITH (fillfactor = 50);

-- Processors alive: partitions are spread evenly over them. The lease is that of all partitions of its owner.
CREATE TABLE processors (
    owner       text PRIMARY KEY,
    lease_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The deciders' state (small JSON), the tombstones of deleted aggregates included.
CREATE TABLE aggregates (
    key        text PRIMARY KEY,                -- thread_id, assistant_id, graph:<graph_id>
    p          int NOT NULL,
    state      json NOT NULL,
    deleted_at timestamptz
) WITH (fillfactor = 70);

CREATE TABLE threads (
    thread_id        uuid PRIMARY KEY,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    state_updated_at timestamptz NOT NULL,
    metadata         jsonb NOT NULL DEFAULT '{}',
    config           json NOT NULL DEFAULT '{}',
    status           text NOT NULL DEFAULT 'idle',
    error            json,
    interrupts       json NOT NULL DEFAULT '{}',
    ttl              json,
    checkpoint_id    text COLLATE "C"           -- newest checkpoint of the root namespace
) WITH (fillfactor = 70);
-- Every order the api sorts by, ties included. A run writes to them twice, which is little of what it costs; rows were not
-- updated in place (HOT) with an index of the status alone either (docs/performance/growth.md).
CREATE INDEX threads_created ON threads (created_at, thread_id);
CREATE INDEX threads_updated ON threads (updated_at, thread_id);
CREATE INDEX threads_state_updated ON threads (state_updated_at, thread_id);
CREATE INDEX threads_status ON threads (status, created_at, thread_id);
-- Every search reads the pending list from end to end: a short one (kB).
CREATE INDEX threads_metadata ON threads USING gin (metadata jsonb_path_ops) WITH (gin_pending_list_limit = 256);

CREATE TABLE runs (
    run_id             uuid PRIMARY KEY,
    thread_id          uuid NOT NULL,
    assistant_id       uuid,
    graph_id           text NOT NULL,
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz NOT NULL,
    status             text NOT NULL,           -- pending running success error timeout interrupted
    attempt            int NOT NULL DEFAULT 0,
    metadata           jsonb NOT NULL DEFAULT '{}',
    kwargs             json NOT NULL DEFAULT '{}',
    multitask_strategy text NOT NULL,
    temporary          boolean NOT NULL DEFAULT false,
    error              json,
    frames             int,                     -- stream frames of the last attempt, when ended
    stream_from        bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
CREATE INDEX runs_thread ON runs (thread_id, created_at DESC);
CREATE INDEX runs_in_flight ON runs (status, created_at) WHERE status IN ('pending', 'running');

-- Scheduled attempts: executors claim rows with SKIP LOCKED. owner is a lease, not history: it is not rebuilt.
CREATE TABLE run_queue (
    run_id       uuid PRIMARY KEY,              -- a run, or the job of a state update
    thread_id    uuid NOT NULL,
    p            int NOT NULL,
    kind         text NOT NULL DEFAULT 'run',   -- run | state_update
    graph_id     text NOT NULL,
    attempt      int NOT NULL,
    scheduled_at timestamptz NOT NULL,
    fresh        boolean NOT NULL DEFAULT false, -- no checkpoint of this thread exists yet
    payload      json,                          -- of a state update: {supersteps, checkpoint, config, metadata}
    cancel       text,                          -- set when the attempt has to stop: interrupt | rollback | delete
    owner        text
) WITH (fillfactor = 50);
CREATE INDEX run_queue_free ON run_queue (scheduled_at) WHERE owner IS NULL AND cancel IS NULL;
CREATE INDEX run_queue_owner ON run_queue (owner) WHERE owner IS NOT NULL;
CREATE INDEX run_queue_thread ON run_queue (thread_id);

-- Executors alive: an expired lease hands their runs to others.
CREATE TABLE executors (
    executor_id text PRIMARY KEY,
    lease_until timestamptz NOT NULL,
    slots       int NOT NULL,
    graphs      text[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);

-- Executors that have claimed again what they hold since the server last crashed: recovery empties unlogged tables.
CREATE UNLOGGED TABLE executors_here (
    executor_id text PRIMARY KEY
);

CREATE TABLE timers (
    id     text PRIMARY KEY,                    -- also the id of the command it fires
    p      int NOT NULL,
    due_at timestamptz NOT NULL,
    key    text NOT NULL,
    type   text NOT NULL,
    body   json NOT NULL
);
CREATE INDEX timers_due ON timers (p, due_at);

CREATE TABLE checkpoints (
    thread_id     uuid NOT NULL,
    ns            text COLLATE "C" NOT NULL DEFAULT '',
    checkpoint_id text COLLATE "C" NOT NULL,    -- UUIDv6: later ones sort higher
    parent_id     text COLLATE "C",
    run_id        uuid,
    created_at    timestamptz NOT NULL,
    metadata      jsonb NOT NULL DEFAULT '{}',  -- of this step; the rest of it is in the first of the parts
    checkpoint    json NOT NULL,                -- {channel_versions, versions_seen, updated_channels}
    channels      json NOT NULL,                -- channel -> value reference
    tasks         json,                         -- [{id, name, path, …}] of the next superstep
    out           json,                         -- channels clients see: a list, or the name of the only one
    shown         json,                         -- rendered-only value references (delta channels)
    parts         text,                         -- hashes of what rows have in common (engine.stored.row_codec)
    PRIMARY KEY (thread_id, ns, checkpoint_id)
);

CREATE TABLE checkpoint_writes (
    thread_id     uuid NOT NULL,
    ns            text COLLATE "C" NOT NULL DEFAULT '',
    checkpoint_id text COLLATE "C" NOT NULL,
    task_id       text COLLATE "C" NOT NULL,
    idx           int NOT NULL,                 -- from 0: kept as first written; below 0 (errors, interrupts): replaced
    task_path     text COLLATE "C" NOT NULL DEFAULT '',
    channel       text NOT NULL,
    value         json NOT NULL,                -- value reference
    run_id        uuid,
    PRIMARY KEY (thread_id, ns, checkpoint_id, task_id, idx)
);

-- Values by content. type: how data is serialised, "+zstd" appended when compressed.
CREATE TABLE channel_values (
    thread_id uuid NOT NULL,
    hash      text COLLATE "C" NOT NULL,
    type      text NOT NULL,
    data      bytea NOT NULL,
    PRIMARY KEY (thread_id, hash)
);
ALTER TABLE channel_values ALTER COLUMN data SET STORAGE EXTERNAL;  -- compressed already

CREATE TABLE graphs (
    graph_id   text PRIMARY KEY,
    digest     text NOT NULL,
    info       json NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE assistants (
    assistant_id uuid PRIMARY KEY,
    graph_id     text NOT NULL,
    name         text NOT NULL,
    description  text,
    config       json NOT NULL DEFAULT '{}',
    context      json NOT NULL DEFAULT '{}',
    metadata     jsonb NOT NULL DEFAULT '{}',
    version      int NOT NULL,
    created_at   timestamptz NOT NULL,
    updated_at   timestamptz NOT NULL
);
CREATE INDEX assistants_created ON assistants (created_at, assistant_id);
CREATE INDEX assistants_updated ON assistants (updated_at, assistant_id);
CREATE INDEX assistants_name ON assistants (name, assistant_id);
CREATE INDEX assistants_graph ON assistants (graph_id, assistant_id);
CREATE INDEX assistants_metadata ON assistants USING gin (metadata jsonb_path_ops);

CREATE TABLE assistant_versions (
    assistant_id uuid NOT NULL,
    version      int NOT NULL,
    graph_id     text NOT NULL,
    name         text NOT NULL,
    description  text,
    config       json NOT NULL DEFAULT '{}',
    context      json NOT NULL DEFAULT '{}',
    metadata     jsonb NOT NULL DEFAULT '{}',
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (assistant_id, version)
);

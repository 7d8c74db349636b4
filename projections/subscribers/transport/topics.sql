-- Topics of subscribers in the log's database: what Faust agents send, changelogs of their tables, committed offsets.
-- Not history: apart from the log and the read models, in a schema that can be dropped with the subscribers.
-- Idempotent; applied by SubscriberTopics.open under an advisory lock.

CREATE SCHEMA IF NOT EXISTS threadlog_subscribers;

CREATE TABLE IF NOT EXISTS threadlog_subscribers.topics (
    topic             text COLLATE "C" PRIMARY KEY,
    partitions        int NOT NULL,
    compacting        boolean NOT NULL,          -- of the records of a key only the last is kept
    retention_seconds double precision           -- NULL: for ever
);

-- Offsets begin with 1: Faust takes a read offset of 0 for none, and then never commits past a gap behind it.
CREATE TABLE IF NOT EXISTS threadlog_subscribers.heads (
    topic     text COLLATE "C" NOT NULL,
    partition int NOT NULL,
    head      bigint NOT NULL DEFAULT 1,         -- offset of the next record
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 20);

CREATE TABLE IF NOT EXISTS threadlog_subscribers.records (
    topic     text COLLATE "C" NOT NULL,
    partition int NOT NULL,
    off       bigint NOT NULL,
    at        timestamptz NOT NULL,
    key       bytea,
    value     bytea,                             -- NULL: the key is gone
    headers   jsonb,                             -- {name: value as base64}
    PRIMARY KEY (topic, partition, off)
);
-- For compaction only; keys are hashed, as an index can't hold long ones.
CREATE INDEX IF NOT EXISTS records_key ON threadlog_subscribers.records (topic, partition, md5(key));

-- Which worker of an app may commit: it raises the generation when it takes the app's partitions over.
CREATE TABLE IF NOT EXISTS threadlog_subscribers.apps (
    app        text COLLATE "C" PRIMARY KEY,
    generation bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS threadlog_subscribers.offsets (
    app       text COLLATE "C" NOT NULL,
    topic     text COLLATE "C" NOT NULL,
    partition int NOT NULL,
    off       bigint NOT NULL,                   -- the next one to read
    PRIMARY KEY (app, topic, partition)
);

-- Events of the log that the read models could not take and do not hold: none, unless the deciders let something pass that
-- Postgres refuses. Rebuilt from the log like every read model.
CREATE TABLE projection_skips (
    p      int NOT NULL,
    ev_off bigint NOT NULL,                     -- of the record in events[p]
    idx    int NOT NULL,                        -- of the event in the record, from 0; -1: the decider's state after it
    key    text NOT NULL,
    type   text NOT NULL,
    error  text NOT NULL,
    at     text NOT NULL,                       -- the record's own time
    PRIMARY KEY (p, ev_off, idx)
);

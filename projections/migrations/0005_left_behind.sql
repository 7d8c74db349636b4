-- Nodes that still run in threads of this executor although their runs have ended, and what follows them has begun.
ALTER TABLE executors ADD COLUMN left_behind int NOT NULL DEFAULT 0;

-- Rows of up to half a page stay in their table, as those of the log (engine/log/postgres/postgres.sql): values are written
-- once, the state of an aggregate is written anew by every command, and compressing it costs more than the rest of it (2.5 KB,
-- as with 64 remembered keys: 165 -> 73 µs of CPU).
ALTER TABLE aggregates SET (toast_tuple_target = 4080);
ALTER TABLE channel_values SET (toast_tuple_target = 4080);

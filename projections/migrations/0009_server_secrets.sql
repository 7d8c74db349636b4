-- Secrets that the processes of a server share. Not history: not in the log, and not rebuilt.
CREATE TABLE server_secrets (
    name   text PRIMARY KEY,
    secret text NOT NULL
);

-- With this one, requests of the application's own code pass the api's authentication.
INSERT INTO server_secrets VALUES ('loopback', replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''));

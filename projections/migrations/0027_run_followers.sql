-- Which request last came back for a run that is cancelled when its client leaves (api.idempotency.returns): requests
-- with an idempotency key alone, sent again while the run goes on. Coordination between apis: nothing of it is history.
CREATE TABLE run_followers (
    run_id uuid PRIMARY KEY,
    follower text NOT NULL
);

"""A Faust transport on the log in Postgres: the URL scheme `threadlog://`, beside Faust's own `kafka://`."""

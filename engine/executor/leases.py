"""How long the lease of an executor lasts, and how often it is renewed."""

LEASE_SECONDS = 6.0
RENEW_SECONDS = 1.5

"""The ledger: avatars, clip requests, artifacts and timings in one database."""

"""Dagster resources: configured doors to the store and the ledger."""

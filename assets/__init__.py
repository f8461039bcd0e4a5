"""Dagster assets, checks, partitions and jobs: bindings over the engine, no algorithms."""

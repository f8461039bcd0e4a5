"""The `avatar` command."""

from avatar_pipeline.cli.app import main

__all__ = ["main"]

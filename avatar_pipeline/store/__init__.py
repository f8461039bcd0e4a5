"""Artifacts on files or S3, under content keys; checkpoints; write-then-rename."""

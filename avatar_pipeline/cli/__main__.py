"""`python -m avatar_pipeline.cli`: the `avatar` command where the script is not on the path."""

from avatar_pipeline.cli.app import main

main()

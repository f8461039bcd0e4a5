"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

AvatarId = Annotated[str, typer.Argument(metavar="ID", help="The avatar's id: a-z, 0-9 and '-'.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]


class Kind(StrEnum):
    """What a request asks for, and so which queue it goes through."""

    CLIP = "clip"
    AVATAR = "avatar"


class State(StrEnum):
    """Where a request can be."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    RUNNING = "running"
    HELD = "held"
    DONE = "done"
    FAILED = "failed"


Tenant = Annotated[str | None, typer.Option(help="On whose behalf; tenants share the workers fairly.")]
Priority = Annotated[int, typer.Option(help="0 to 9; higher goes first.")]
Deadline = Annotated[
    str | None, typer.Option(help="When it is of no more use: ISO 8601 with a time zone, or +30s, +10m, +2h, +1d.")
]
Callback = Annotated[str | None, typer.Option(help="A URL to be told when the request is done or has failed.")]

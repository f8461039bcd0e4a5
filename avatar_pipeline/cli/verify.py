"""`avatar verify`: what the content credentials of a file come to."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from avatar_pipeline.cli import console
from avatar_pipeline.cli.options import AsJson
from avatar_pipeline.errors import NotFound


def verify(
    file: Annotated[Path, typer.Argument(help="A clip or a sound file.")],
    as_json: AsJson = False,
) -> None:
    """Check a file's content credentials: is it as it was signed, by whom, and what does it say of itself?

    Exit code 1 if it was changed after it was signed. Nothing is fetched.
    """
    from avatar_pipeline.provenance.reading import INVALID, read_credentials

    found = read_credentials(file)
    if found is None:
        raise NotFound(
            f"{file.name} has no content credentials.",
            remedy="Re-encoding takes them out; ask for the file as it was delivered.",
        )
    if as_json:
        console.say_json(asdict(found) | {"told": found.told, "is_test": found.is_test})
    else:
        say = console.out.print
        say(f"{file.name}: {console.printable(found.told)}", soft_wrap=True)
        if found.signed_at:
            say(f"  signed at: {console.printable(found.signed_at)}", soft_wrap=True)
        for source in found.source_types:
            say(f"  source type: {console.printable(source)}", soft_wrap=True)
        for name, value in found.origin.items():
            say(f"  {console.printable(name.replace('_', ' '))}: {console.printable(value)}", soft_wrap=True)
    if found.state == INVALID:
        raise typer.Exit(1)

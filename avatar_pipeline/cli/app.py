"""The commands of `avatar`: they parse, call, and print.

Exit codes: 0 done; 1 failed or called off; 2 the input or the call is at fault; 3 the machine lacks something; 4 the
store is damaged; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from avatar_pipeline.cli import console, work
from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.cli.budget import budget
from avatar_pipeline.cli.cluster import cluster
from avatar_pipeline.cli.consent import consent as consents
from avatar_pipeline.cli.lab import lab_app
from avatar_pipeline.cli.options import AsJson, AvatarId
from avatar_pipeline.cli.queue import queue
from avatar_pipeline.cli.requests import requests
from avatar_pipeline.cli.spot import spot_app
from avatar_pipeline.cli.verify import verify
from avatar_pipeline.consent import read_consent, recording_beside
from avatar_pipeline.errors import AvatarError, EnvironmentProblem, package_missing
from avatar_pipeline.voice.types import DEFAULT_GREETING, DEFAULT_VOICE

app = typer.Typer(
    name="avatar",
    help="Turn a talking-head video into an avatar that says what you type.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(queue, name="queue")
app.add_typer(consents, name="consent")
app.add_typer(budget, name="budget")
app.add_typer(spot_app, name="spot")
app.add_typer(lab_app, name="lab")
lab_app.command()(cluster)
app.command()(requests)
app.command()(verify)


@app.command()
def create(
    avatar_id: AvatarId,
    video: Annotated[Path, typer.Argument(help="A video of one person talking to the camera.")],
    consent: Annotated[Path, typer.Option(help="The person's consent, see docs/consent.md.")],
    voice: Annotated[
        str, typer.Option(help="enrol:<language>: the video's voice; local:<language>: a stock voice.")
    ] = DEFAULT_VOICE,
    greeting: Annotated[str, typer.Option(help="What the avatar says first.")] = DEFAULT_GREETING,
    as_json: AsJson = False,
) -> None:
    """Make an avatar from a video. Interrupted, it goes on where it was when called again."""
    with open_line() as line, console.showing_progress(quiet=as_json):
        record = read_consent(consent)
        recording = recording_beside(consent, record)
        work.create(line, avatar_id, video, record, voice=voice, greeting=greeting, recording=recording)
    show(avatar_id, as_json=as_json)


@app.command()
def say(
    avatar_id: AvatarId,
    text: Annotated[str, typer.Argument(help="What to say, up to 5,000 characters.")],
    out: Annotated[Path | None, typer.Option(help="Where to put the clip, an .mp4 file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a clip in which the avatar says TEXT."""
    with open_line() as line, console.showing_progress(quiet=as_json):
        clip, path = work.say(line, avatar_id, text, out=out)
    facts = {name: clip.facts[name] for name in ("frames", "seconds", "sync_r", "renderer")}
    if as_json:
        console.say_json({"clip": str(path), "key": clip.key, **facts})
    else:
        console.out.print(f"{path}  ({facts['seconds']} s, {facts['frames']} frames)", soft_wrap=True)


@app.command()
def show(avatar_id: AvatarId, as_json: AsJson = False) -> None:
    """Show an avatar: its state, its artifacts, what they took and cost."""
    with open_line() as line:
        avatar = line.ledger.avatar(avatar_id)
        made = work.inventory(line, avatar_id)
        advice = work.capture_advice(line, avatar_id)
    if as_json:
        console.say_json(
            {
                "id": avatar.id,
                "state": avatar.state,
                "voice": avatar.voice,
                "source": avatar.source_name,
                "consent_id": avatar.consent.consent_id,
                "created_at": avatar.created_at,
                "error": avatar.error,
                "advice": advice,
                "artifacts": [item.as_dict() for item in made],
            }
        )
        return
    console.out.print(f"{avatar.id}: {avatar.state}, voice {avatar.voice}, from {avatar.source_name}", soft_wrap=True)
    if avatar.error:
        console.out.print(f"  {avatar.error['message']} {avatar.error['remedy']}", soft_wrap=True)
    for sentence in advice:
        console.out.print(f"  advice: {sentence}", soft_wrap=True)
    console.out.print(inventory_table(made))


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the avatars."""
    with open_line() as line:
        avatars = line.ledger.avatars()
    if as_json:
        console.say_json(
            [{"id": a.id, "state": a.state, "voice": a.voice, "created_at": a.created_at} for a in avatars]
        )
        return
    table = Table("id", "state", "voice", "made from", "created", box=None)
    for avatar in avatars:
        created = f"{avatar.created_at:%Y-%m-%d %H:%M} UTC"
        table.add_row(avatar.id, avatar.state, avatar.voice, avatar.source_name, created)
    console.out.print(table)


@app.command()
def rm(
    avatar_id: AvatarId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove an avatar: its artifacts, its voice, its rows. Asks first."""
    with open_line() as line:
        line.ledger.avatar(avatar_id)
        if not yes:
            typer.confirm(f"Remove {avatar_id}, its voice and all its clips?", abort=True, err=True)
        work.remove(line, avatar_id)
    if as_json:
        console.say_json({"removed": avatar_id})
    else:
        console.out.print(f"Removed {avatar_id}.")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("out/demo"), as_json: AsJson = False
) -> None:
    """Make a sample upload, an avatar from it, and three clips; leave them with a report in OUT."""
    from avatar_pipeline.cli.demo import run_demo

    with open_line() as line, console.showing_progress(quiet=as_json):
        result = run_demo(line, out)
    if as_json:
        console.say_json(
            {"reused": result.all_reused, "seconds": round(result.seconds, 2), "report": str(result.report)}
            | {"artifacts": [item.as_dict() for item in result.made]}
        )
        return
    console.out.print(inventory_table(result.made))
    told = "Everything was there already; nothing was computed again" if result.all_reused else "Done"
    console.out.print(f"{told}, in {result.seconds:.1f} s. Look at {result.report}", soft_wrap=True)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine: versions, GPU, OpenGL, models, store, ledger, queues, callbacks, voice provider."""
    from avatar_pipeline.cli.doctor import examine

    findings = examine()
    if as_json:
        console.say_json([finding.as_dict() for finding in findings])
    for finding in [] if as_json else findings:
        mark, colour = finding.mark
        console.out.print(f"{mark:<7}", style=colour, end="")
        console.out.print(f" {finding.name}: {finding.told}", soft_wrap=True)
        if finding.remedy:
            console.out.print(f"        {finding.remedy}", soft_wrap=True)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(3)


def inventory_table(made: list[work.Made]) -> Table:
    """Return artifacts as a table: name, path, size, seconds, estimated cost."""
    table = Table("artifact", "path", box=None)
    for title in ("size", "seconds", "est. cost USD"):
        table.add_column(title, justify="right")
    table.add_column("")
    for item in made:
        size = f"{item.size_bytes / 1024:,.0f} KiB"
        told = "reused" if item.reused else ""
        table.add_row(item.name, item.path, size, f"{item.seconds:.2f}", f"{item.cost:.6f}", told)
    total = sum((item.cost for item in made), start=Decimal(0))
    table.add_row("total", "", "", f"{sum(item.seconds for item in made):.2f}", f"{total:.6f}", "")
    return table


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with a code that means something."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app(arguments)
    except Exception as error:  # the last door: behind it a user would see a traceback
        problem = _as_problem(error)
        console.say_error(problem, as_json="--json" in arguments)
        sys.exit(problem.exit_code)


def _as_problem(error: Exception) -> AvatarError:
    """Return what a user can make use of: the error itself, what the machine refused, or where a bug's details are."""
    if isinstance(error, AvatarError):
        return error
    if isinstance(error, ImportError):
        return package_missing(error)
    if isinstance(error, OSError) and error.strerror:
        return EnvironmentProblem(
            f"{error.filename or 'The system'}: {error.strerror}.",
            remedy="Make room, or mend the path or its rights (AVATAR_HOME, AVATAR_STORE, --out), and call again.",
        )
    details = Path(tempfile.gettempdir()) / f"avatar-error-{os.getpid()}.txt"
    details.write_text("".join(traceback.format_exception(error)))
    return AvatarError(f"Unexpected {type(error).__name__}.", remedy=f"Details are in {details}.")

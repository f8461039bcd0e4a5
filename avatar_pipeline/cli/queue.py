"""`avatar queue`: put requests into the queues, and look after what is in them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from avatar_pipeline.cli import console, sending
from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.cli.options import AsJson, AvatarId, Callback, Deadline, Kind, Priority, Tenant
from avatar_pipeline.errors import EnvironmentProblem
from avatar_pipeline.queues.types import Message, WorkQueue
from avatar_pipeline.settings import read_settings
from avatar_pipeline.stages.line import Line

queue = typer.Typer(help="Send requests by queue, and look after the queues.", no_args_is_help=True)
send = typer.Typer(help="Send a request, or a file of them.", no_args_is_help=True)
queue.add_typer(send, name="send")

_SHOWN = 80
OneKind = Annotated[Kind | None, typer.Argument(metavar="[clip|avatar]", help="Which queue; both if not said.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Most messages to show.")]


@send.command("clip")
def send_clip(
    avatar_id: AvatarId,
    text: Annotated[str, typer.Argument(help="What to say, up to 5,000 characters.")],
    request_id: Annotated[str | None, typer.Option(help="Idempotency key: the same id is the same clip.")] = None,
    tenant: Tenant = None,
    priority: Priority = 0,
    deadline: Deadline = None,
    speed: Annotated[float | None, typer.Option(help="0.5 to 2; 1 is the voice's own pace.")] = None,
    size: Annotated[int | None, typer.Option(help="Short side in pixels, 256 to 2160; the footage's if unset.")] = None,
    fps: Annotated[int | None, typer.Option(help="Frames a second, 10 to 60.")] = None,
    callback: Callback = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a clip in which the avatar says TEXT."""
    with open_line() as line, console.interruptible():
        now = line.clock()
        values = {
            "avatar_id": avatar_id,
            "text": text,
            "request_id": request_id,
            "tenant": tenant,
            "priority": priority,
            "deadline": sending.read_deadline(deadline, now),
            "voice": None if speed is None else {"speed": speed},
            "size": size,
            "fps": fps,
            "callback_url": callback,
        }
        _send_one(line, sending.clip_request(values, now), as_json=as_json)


@send.command("avatar")
def send_avatar(
    avatar_id: AvatarId,
    video: Annotated[str, typer.Argument(help="A video, or the URI of one in the uploads place.")],
    consent: Annotated[str, typer.Option(help="The person's consent, a file or a URI; see docs/consent.md.")],
    voice: Annotated[str | None, typer.Option(help="enrol:<language> or local:<language>.")] = None,
    greeting: Annotated[str | None, typer.Option(help="What the avatar says first.")] = None,
    tenant: Tenant = None,
    priority: Priority = 0,
    deadline: Deadline = None,
    callback: Callback = None,
    as_json: AsJson = False,
) -> None:
    """Ask for an avatar to be made from VIDEO, which is copied to the uploads place."""
    with open_line() as line, console.interruptible():
        now = line.clock()
        values = {
            "avatar_id": avatar_id,
            "voice": voice,
            "greeting": greeting,
            "tenant": tenant,
            "priority": priority,
            "deadline": sending.read_deadline(deadline, now),
            "callback_url": callback,
        }
        item = sending.avatar_request(line.settings, values, video, consent, now)
        _send_one(line, item, as_json=as_json)


@send.command("file")
def send_file(
    requests: Annotated[str, typer.Argument(help="JSON lines, each with its kind, clip or avatar; - reads them in.")],
    as_json: AsJson = False,
) -> None:
    """Send the requests in a file. All are checked before any is sent."""
    with open_line() as line, console.interruptible():
        if requests == "-":
            items = sending.read_requests(line.settings, sys.stdin.buffer, "standard input")
        else:
            with Path(requests).open("rb") as lines:
                items = sending.read_requests(line.settings, lines, requests)
        sending.send(line, items)
    counts = {kind.value: sum(item.kind == kind for item in items) for kind in Kind}
    if as_json:
        console.say_json({"sent": len(items)} | counts)
    else:
        console.out.print(f"Sent {len(items):,} requests: {counts['clip']:,} clips, {counts['avatar']:,} avatars.")


@queue.command()
def peek(
    kind: OneKind = None,
    dead: Annotated[bool, typer.Option("--dead", help="Look into the dead-letter queue.")] = False,
    limit: Limit = 10,
    as_json: AsJson = False,
) -> None:
    """Show what waits, and leave it there."""
    with open_line() as line, console.interruptible():
        _show_messages(line, kind, dead=dead, limit=limit, as_json=as_json)


@queue.command()
def dlq(kind: OneKind = None, limit: Limit = 20, as_json: AsJson = False) -> None:
    """Show dead letters: what was given up, and why."""
    with open_line() as line, console.interruptible():
        _show_messages(line, kind, dead=True, limit=limit, as_json=as_json)


@queue.command()
def stats(as_json: AsJson = False) -> None:
    """Count what is in the queues, and the requests in the ledger."""
    with open_line() as line, console.interruptible():
        queues = {kind.value: _stats_of(sending.queue_of(line, kind)) for kind in Kind}
        counts = line.requests.counts()
        backlog = line.requests.backlog()
    if as_json:
        ledger: dict[str, dict[str, int]] = {kind.value: {} for kind in Kind}
        for (kind, state), number in counts.items():
            ledger[kind][state] = number
        waiting = {"waiting": backlog.waiting, "oldest_age_seconds": backlog.oldest_age}
        console.say_json({"queues": queues, "requests": ledger, "backlog": waiting})
        return
    table = Table("queue", box=None)
    for title in ("visible", "in flight", "delayed", "oldest"):
        table.add_column(title, justify="right")
    for told in queues.values():
        for row in filter(None, (told, told["dead"])):
            numbers = (str(row[name]) for name in ("visible", "in_flight", "delayed"))
            table.add_row(row["name"], *numbers, console.span(row["oldest_age_seconds"]))
    console.print_table(table)
    for (kind, state), number in sorted(counts.items()):
        console.out.print(f"{kind} requests {state}: {number:,}")
    oldest = f", the oldest for {console.span(backlog.oldest_age)}" if backlog.oldest_age is not None else ""
    console.out.print(f"clips that a worker could take now: {backlog.waiting:,}{oldest}", soft_wrap=True)


@queue.command()
def redrive(
    kind: OneKind = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most messages to move; all if not said.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put dead letters back into their queue, to be tried again. Asks first."""
    with open_line() as line, console.interruptible():
        moved = 0
        for source in _queues(line, kind):
            waiting = source.dead.depth().visible if source.dead else 0
            wanted = waiting if limit is None else min(waiting, limit - moved)
            if wanted <= 0:
                continue
            if not yes:
                typer.confirm(f"Put {wanted:,} dead letters back into {source.name}?", abort=True, err=True)
            moved += source.redrive(None if limit is None else wanted)
    if as_json:
        console.say_json({"moved": moved})
    else:
        console.out.print(f"Put back {moved:,} messages." if moved else "There are no dead letters.")


@queue.command("create")
def create_queues(as_json: AsJson = False) -> None:
    """Create the queues and their dead-letter queues, where that has to be done."""
    from avatar_pipeline.queues.sqs import create_queues as create

    with console.interruptible():
        names = create(read_settings())
    if as_json:
        console.say_json({"created": names})
    elif names:
        console.out.print(f"Created, or found and brought up to date: {', '.join(names)}.", soft_wrap=True)
    else:
        console.out.print("Nothing to do: the queues are tables of the ledger.", soft_wrap=True)


def _send_one(line: Line, item: sending.Outgoing, *, as_json: bool) -> None:
    (message_id,) = sending.send(line, [item])
    name, request_id = sending.queue_of(line, item.kind).name, item.request.request_id
    if as_json:
        console.say_json({"request_id": request_id, "queue": name, "message_id": message_id})
    else:
        console.out.print(f"{request_id}  (sent to {name})", soft_wrap=True)


def _queues(line: Line, kind: Kind | None) -> list[WorkQueue]:
    return [sending.queue_of(line, which) for which in ([kind] if kind else Kind)]


def _show_messages(line: Line, kind: Kind | None, *, dead: bool, limit: int, as_json: bool) -> None:
    found: list[tuple[str, Message]] = []
    for source in _queues(line, kind):
        looked_at = source.dead if dead else source
        if looked_at is None:
            raise EnvironmentProblem(
                f"{source.name} has no dead-letter queue.", remedy="Run avatar queue create, or attach one to it."
            )
        found += [(looked_at.name, message) for message in looked_at.peek(limit)]
    now = line.clock()
    if as_json:
        console.say_json([_message_as_dict(name, message) for name, message in found])
        return
    table = Table("queue", "message", "age", "received", box=None)
    if dead:
        table.add_column("reason", overflow="fold")
    table.add_column("body", overflow="ellipsis")
    for name, message in found:
        reason = [console.printable(message.reason or "received too often")] if dead else []
        body = console.printable(message.body, _SHOWN)
        age = console.span(now - message.sent_at)
        table.add_row(name, message.message_id, age, f"{message.receive_count}", *reason, body)
    console.print_table(table)


def _message_as_dict(name: str, message: Message) -> dict[str, Any]:
    return {
        "queue": name,
        "message_id": message.message_id,
        "sent_at": message.sent_at,
        "receive_count": message.receive_count,
        "reason": message.reason,
        "body": message.body,
    }


def _stats_of(source: WorkQueue) -> dict[str, Any]:
    depth = source.depth()
    return {
        "name": source.name,
        "visible": depth.visible,
        "in_flight": depth.in_flight,
        "delayed": depth.delayed,
        "oldest_age_seconds": source.oldest_age(),
        "dead": None if source.dead is None else _stats_of(source.dead),
    }

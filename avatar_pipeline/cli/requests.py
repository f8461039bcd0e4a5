"""`avatar requests`: what was asked for, how far it is, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from avatar_pipeline.cli import console, following
from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.cli.following import Wish
from avatar_pipeline.cli.options import AsJson, Kind, State
from avatar_pipeline.ids import require_slug
from avatar_pipeline.ledger.messages import ClipRequest
from avatar_pipeline.ledger.records import RequestRecord
from avatar_pipeline.stages.line import Line


def requests(
    request_id: Annotated[str | None, typer.Argument(help="One request: its history, error, clip, callbacks.")] = None,
    avatar: Annotated[str | None, typer.Option(help="Only requests for this avatar.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only those of this batch.")] = None,
    state: Annotated[list[State] | None, typer.Option(help="Only those in this state; may be given again.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only clips, or only avatars.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most requests to list, the newest first.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until all are done or failed.")] = False,
    as_json: AsJson = False,
) -> None:
    """List requests and where they are, or tell all about one.

    With --follow it goes on until all are final and no message waits in the queue, and fails if any of them failed.
    """
    for name, value in (("request id", request_id), ("avatar", avatar), ("tenant", tenant), ("batch", batch)):
        if value is not None:
            require_slug(value, name)
    wish = Wish(
        request_id=request_id,
        kind=None if kind is None else kind.value,
        avatar_id=avatar,
        tenant=tenant,
        batch_id=batch,
        states=[one.value for one in state or []],
        limit=limit,
    )
    with open_line() as line, console.interruptible():
        records = _followed(line, wish, quiet=as_json) if follow else following.find(line, wish)
        if request_id is not None:
            _tell(following.details(line, records[0]) if records else {}, as_json=as_json)
        elif as_json:
            console.say_json([following.as_dict(line, record) for record in records])
        elif not follow:
            console.print_table(_table(line, records))
    if follow and any(record.state == "failed" for record in records):
        raise typer.Exit(1)


def _followed(
    line: Line, wish: Wish, *, quiet: bool, sleep: Callable[[float], None] = time.sleep
) -> list[RequestRecord]:
    """Follow the requests and show them: a table that changes on a terminal, else a line for each change."""
    if quiet:
        return following.follow(line, wish, show=lambda _: None, sleep=sleep)
    if console.out.is_terminal:
        with Live(console=console.out, auto_refresh=False) as live:

            def refresh(records: list[RequestRecord]) -> None:
                live.update(_table(line, records), refresh=True)

            return following.follow(line, wish, show=refresh, sleep=sleep)
    told: dict[str, str] = {}

    def tell_changes(records: list[RequestRecord]) -> None:
        for record in records:
            request_id = record.request.request_id
            if told.get(request_id) == record.state:
                continue
            told[request_id] = record.state
            why = console.printable(following.reason(line, record))
            text = f"{line.clock():%H:%M:%S} {request_id} {record.state}{f': {why}' if why else ''}"
            console.out.print(text, soft_wrap=True)

    return following.follow(line, wish, show=tell_changes, sleep=sleep)


def _table(line: Line, records: list[RequestRecord]) -> Table:
    now = line.clock()
    table = Table("id", "kind", "avatar", "tenant", "priority", "state", "waited", "took", "batch", "reason", box=None)
    for record in records:
        request = record.request
        table.add_row(
            request.request_id,
            "clip" if isinstance(request, ClipRequest) else "avatar",
            request.avatar_id,
            request.tenant,
            str(request.priority),
            record.state,
            console.span(following.waited(record, now)),
            console.span(following.took(record, now)),
            record.batch_id or "",
            console.printable(following.reason(line, record)),
        )
    return table


def _tell(told: dict[str, Any], *, as_json: bool) -> None:
    """Print all about one request, of which nothing is left if it was removed while it was followed."""
    if as_json:
        console.say_json(told)
        return
    if not told:
        console.out.print("It was removed.")
        return
    say = console.out.print
    head = f"{told['request_id']}: {told['kind']} of {told['avatar_id']}, {told['state']}"
    say(f"{head}; tenant {told['tenant']}, priority {told['priority']}, begun {told['attempts']} times", soft_wrap=True)
    if told["deadline"]:
        say(f"  deadline: {told['deadline']:%Y-%m-%d %H:%M:%S} UTC", soft_wrap=True)
    if told["batch_id"]:
        say(f"  batch: {told['batch_id']}", soft_wrap=True)
    for event in told["history"]:
        note = f"  {console.printable(event['note'])}" if event["note"] else ""
        say(f"  {event['at']:%Y-%m-%d %H:%M:%S.%f} UTC  {event['state']}{note}", soft_wrap=True)
    if told["error"]:
        say(f"  error: {console.printable(told['error'].get('message', ''))}", soft_wrap=True)
        say(f"  remedy: {console.printable(told['error'].get('remedy', ''))}", soft_wrap=True)
    if told["clip"]:
        say(f"  clip: {told['clip']}", soft_wrap=True)
    for callback in told["callbacks"]:
        trouble = f", {console.printable(callback['last_error'])}" if callback["last_error"] else ""
        say(
            f"  callback to {callback['host']}: {callback['state']} after {callback['attempts']} attempts{trouble}",
            soft_wrap=True,
        )

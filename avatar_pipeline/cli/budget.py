"""`avatar budget`: what may be spent, what was, what waits for money and why; and how to change it for a time."""

from __future__ import annotations

import getpass
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated

import typer

from avatar_pipeline.budget.figures import moment
from avatar_pipeline.cli import budget_documents as documents
from avatar_pipeline.cli import budget_tables as tables
from avatar_pipeline.cli import console
from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.cli.options import AsJson
from avatar_pipeline.cli.prices import prices
from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.ids import require_slug
from avatar_pipeline.ledger.budget_checks import require_limit
from avatar_pipeline.stages.budget_view import budget_lines, each_rules, standings_of
from avatar_pipeline.stages.explaining import explain_request
from avatar_pipeline.stages.line import Line

budget = typer.Typer(help="Budgets: show, change and explain them; prices of machines.", no_args_is_help=True)
budget.command()(prices)

_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?")
_SPAN = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_TOLD = 10
_SPANS = "Write it as 30m, 2h or 3d."

LimitId = Annotated[
    str, typer.Argument(metavar="LIMIT", help="As avatar budget show names it, such as everything/day.")
]
Reason = Annotated[str, typer.Option(help="Why, for those who look at it later.")]
Who = Annotated[str | None, typer.Option(help="Who changes it; you, if not said.")]


@budget.command()
def show(
    tenant: Annotated[str | None, typer.Option(help="Only what this tenant's spending counts against.")] = None,
    avatar: Annotated[str | None, typer.Option(help="Only what spending on this avatar counts against.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most budgets to show, the fullest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show every budget: its limit, who set it, what is spent, reserved, left and forecast, and how much waits."""
    for name, value in (("tenant", tenant), ("avatar", avatar)):
        if value is not None:
            require_slug(value, name)
    with _open() as line, console.interruptible():
        found = standings_of(line, tenant=tenant, avatar=avatar)
        each = each_rules(line)
        kept, more = budget_lines(line, found[:limit]), len(found[limit:])
        timezone, now = line.plan.timezone, line.clock()
        source = line.settings.budgets
        none = not line.plan.rules
    if as_json:
        document = {"file": source, "timezone": timezone, "at": now, "more": more}
        rules = [
            {"budget": rule.id, "scope": str(rule.scope), "unit": str(rule.unit), "hard": hard} for rule, hard in each
        ]
        console.say_json(document | {"budgets": [documents.line_as_dict(one) for one in kept], "each": rules})
        return
    if none:
        console.out.print(
            "There are no budgets: nothing is held, and all that is spent is written down. "
            "Name a file in AVATAR_BUDGETS; see docs/budget.md.",
            soft_wrap=True,
        )
        return
    console.print_table(tables.lines_table(kept, timezone))
    if more:
        console.out.print(f"{more:,} more: --limit, --tenant or --avatar.")
    for rule, hard in each:
        console.out.print(tables.rule_sentence(rule, hard), soft_wrap=True)
    for one in kept:
        for override in one.overrides:
            console.out.print(tables.override_sentence(override, one.standing.unit, timezone), soft_wrap=True)


@budget.command("set")
def set_(
    limit_id: LimitId,
    amount: Annotated[str | None, typer.Argument(metavar="AMOUNT", help="The limit, in its own unit.")] = None,
    reason: Reason = "",
    clear: Annotated[bool, typer.Option("--clear", help="Go back to what the file says.")] = False,
    who: Who = None,
    as_json: AsJson = False,
) -> None:
    """Set a limit to AMOUNT, in the place of the file's, until it is set again or cleared."""
    if (amount is None) != clear:
        raise InvalidInput(
            "Give either an AMOUNT or --clear.",
            remedy="Such as: avatar budget set everything/day 250 --reason 'A launch'.",
        )
    with _open() as line, console.interruptible():
        if amount is None:
            changed = line.budgets.clear(limit_id, who=_who(who), reason=reason)
        else:
            line.budgets.set(limit_id, _amount(amount, "AMOUNT"), who=_who(who), reason=reason)
            changed = True
        _say_changed(line, limit_id, {"changed": changed}, "" if changed else "Nothing was set. ", as_json=as_json)


@budget.command()
def override(
    limit_id: Annotated[str | None, typer.Argument(metavar="LIMIT", help="As avatar budget show names it.")] = None,
    add: Annotated[str | None, typer.Option(help="How much may be spent on top of the limit.")] = None,
    for_: Annotated[str | None, typer.Option("--for", metavar="SPAN", help="For how long: 30m, 2h, 3d.")] = None,
    until: Annotated[str | None, typer.Option(help="Until when: ISO 8601 with a time zone.")] = None,
    revoke: Annotated[str | None, typer.Option(metavar="ID", help="End this override now.")] = None,
    reason: Reason = "",
    who: Who = None,
    as_json: AsJson = False,
) -> None:
    """Allow more than a limit for a time, at most 90 days; or end that before its time with --revoke."""
    if revoke is not None:
        if any(value is not None for value in (limit_id, add, for_, until)):
            raise InvalidInput(
                "--revoke ends an override, and goes with nothing but --reason.", remedy="Call it alone."
            )
        with _open() as line, console.interruptible():
            of_limit = line.budgets.revoke(revoke, who=_who(who), reason=reason)
            _say_changed(
                line, of_limit, {"override_id": revoke, "revoked": True}, f"Revoked {revoke}. ", as_json=as_json
            )
        return
    if limit_id is None or add is None or (for_ is None) == (until is None):
        raise InvalidInput(
            "An override has a LIMIT, --add, and one of --for and --until.",
            remedy="Such as: avatar budget override everything/day --add 50 --for 2h --reason 'A demo'.",
        )
    with _open() as line, console.interruptible():
        end = _end(for_, until, line.clock())
        override_id = line.budgets.override(limit_id, _amount(add, "--add"), until=end, who=_who(who), reason=reason)
        told = f"Override {override_id}, until {moment(end, line.plan.timezone)}. "
        _say_changed(line, limit_id, {"override_id": override_id, "until": end}, told, as_json=as_json)


@budget.command()
def explain(
    request_id: Annotated[str, typer.Argument(metavar="REQUEST", help="The request's id.")], as_json: AsJson = False
) -> None:
    """Say which budget holds a request, by which figures, and when it is tried again; or what it costs."""
    require_slug(request_id, "request id")
    with _open() as line, console.interruptible():
        explained = explain_request(line, request_id)
        timezone = line.plan.timezone
    if as_json:
        console.say_json(documents.explanation_as_dict(explained))
        return
    request = explained.record.request
    console.out.print(f"{request_id}: {explained.record.state}; avatar {request.avatar_id}, tenant {request.tenant}")
    for sentence in explained.sentences:
        console.out.print(f"  {console.printable(sentence)}", soft_wrap=True)
    if explained.standings:
        console.print_table(tables.standings_table(explained, timezone))


@budget.command()
def alerts(
    days: Annotated[int, typer.Option(min=1, max=36_500, help="Only those of the last days.")] = 31,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most alerts to list.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the thresholds that were crossed, the latest first, and whether somebody was told."""
    with _open() as line, console.interruptible():
        found = line.budgets.alerts(line.clock() - timedelta(days=days), limit)
        webhooks = {
            alert: next(iter(line.callbacks.list(request_id=alert.callback_name, limit=1)), None) for alert in found
        }
        timezone = line.plan.timezone
    if as_json:
        console.say_json([documents.alert_as_dict(alert, webhook) for alert, webhook in webhooks.items()])
    elif found:
        console.print_table(tables.alerts_table(webhooks, timezone))
    else:
        console.out.print(f"No threshold was crossed in the last {days} days.")


@budget.command()
def changes(
    limit_id: Annotated[str | None, typer.Argument(metavar="LIMIT", help="Only those of one limit.")] = None,
    as_json: AsJson = False,
) -> None:
    """List every change that was ever made to the limits: who, when, why."""
    with _open() as line, console.interruptible():
        found = line.budgets.changes(limit_id)
        if limit_id is not None and not found:
            require_limit(line.plan, limit_id)
        timezone, now = line.plan.timezone, line.clock()
    if as_json:
        console.say_json([documents.change_as_dict(change) for change in found])
    elif found:
        console.print_table(tables.changes_table(found, timezone, now))
    else:
        console.out.print("Nothing was ever changed: the file's limits are in force.")


@contextmanager
def _open() -> Iterator[Line]:
    """Open the line, if the file of budgets can be used."""
    with open_line() as line:
        line.money.require_plan()
        yield line


def _say_changed(line: Line, limit_id: str, facts: dict[str, object], told: str, *, as_json: bool) -> None:
    """Tell what is in force after a change."""
    kind, _, name = limit_id.partition("@")[2].partition(":")
    tenant, avatar = (name if kind == each else None for each in ("tenant", "avatar"))
    standings = standings_of(line, tenant=tenant, avatar=avatar)
    changed = [each for each in standings if limit_id in (each[0].id, each[0].rule_id)]
    now = budget_lines(line, changed[:_TOLD])
    if as_json:
        console.say_json(facts | {"limit": limit_id, "budgets": [documents.line_as_dict(one) for one in now]})
        return
    sentences = [tables.line_sentence(one) for one in now] or [f"{limit_id}: nothing is spent under it yet."]
    if len(changed) > len(now):
        sentences.append(f"And {len(changed) - len(now):,} more.")
    console.out.print(told + "\n".join(sentences), soft_wrap=True)
    held = sum(one.held for one in now)
    if held:
        console.out.print(
            f"{held:,} requests are held by it; the budget sensor lets those go on that there is room for.",
            soft_wrap=True,
        )


def _who(given: str | None) -> str:
    if given is not None:
        return given
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        raise InvalidInput("Your user has no name on this machine.", remedy="Say who you are: --who NAME.") from None


def _amount(text: str, what: str) -> Decimal:
    if not _NUMBER.fullmatch(text.strip()):  # what Decimal reads beside digits is no way to write money
        raise InvalidInput(f"{what} {text[:40]!r} is not a number.", remedy="Give digits, such as 250 or 0.5.")
    return Decimal(text.strip())


def _end(span: str | None, until: str | None, now: datetime) -> datetime:
    """Return when an override ends, that was given one way or the other."""
    if span is not None:
        parts = _SPAN.fullmatch(span.strip().removeprefix("+"))
        if parts is None:
            raise InvalidInput(f"--for {span[:40]!r} is not a span of time.", remedy=_SPANS)
        return now + timedelta(**{_UNITS[parts[2]]: int(parts[1])})
    text = until or ""
    remedy = "Write it as 2026-12-24T18:00:00Z, or give --for 2h."
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"--until {text[:40]!r} is not a time.", remedy=remedy) from None
    if end.tzinfo is None:
        raise InvalidInput(f"--until {text[:40]!r} has no time zone.", remedy=remedy)
    try:
        return end.astimezone(UTC)
    except OverflowError:
        raise InvalidInput(f"--until {text[:40]!r} is in no year from 1 to 9999.", remedy=remedy) from None

"""`avatar consent`: which consents there are, what they say, and taking one back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from avatar_pipeline.cli import console
from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.cli.options import AsJson
from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import NotFound
from avatar_pipeline.stages.intake import batches_of
from avatar_pipeline.stages.line import Line

consent = typer.Typer(name="consent", help="Consents: what was agreed to, and taking it back.", no_args_is_help=True)

ConsentId = Annotated[str, typer.Argument(metavar="ID", help="The consent's id, as its record has it.")]


@dataclass(frozen=True, slots=True)
class Known:
    """A consent that is known here: its record, if any avatar has it, and whether it was taken back."""

    consent_id: str
    record: ConsentRecord | None
    avatars: tuple[str, ...]
    revoked_at: datetime | None
    reason: str

    def state(self, now: datetime) -> str:
        """Say in a word or two whether it holds."""
        record = self.record
        if self.revoked_at is not None or (record and record.revoked_at and record.revoked_at <= now):
            return "revoked"
        if record is None or record.given_at > now:
            return "not yet in force"
        return "expired" if record.expires_at is not None and record.expires_at <= now else "in force"


@consent.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the consents of the avatars, and those that were taken back."""
    with open_line() as line:
        known, now = _known(line), line.clock()
    if as_json:
        console.say_json([_as_dict(one, now) for one in known])
        return
    table = Table("id", "state", "subject", "scope", "until", "avatars", box=None)
    for one in known:
        record = one.record
        table.add_row(
            one.consent_id,
            one.state(now),
            console.printable(record.subject) if record else "",
            ", ".join(sorted(record.scope)) if record else "",
            f"{record.expires_at:%Y-%m-%d}" if record and record.expires_at else "",
            ", ".join(one.avatars),
        )
    console.print_table(table)


@consent.command()
def show(consent_id: ConsentId, as_json: AsJson = False) -> None:
    """Show a consent: who agreed to what, until when, for which avatars, and whether it was taken back."""
    with open_line() as line:
        found = [one for one in _known(line) if one.consent_id == consent_id]
        if not found:
            raise NotFound(
                f"There is no consent {consent_id[:70]!r}.", remedy="See what there is: avatar consent list."
            )
        told = _as_dict(found[0], line.clock())
    if as_json:
        console.say_json(told)
        return
    say = console.out.print
    say(f"{told['consent_id']}: {told['state']}", soft_wrap=True)
    for name in ("subject", "scope", "given_at", "expires_at", "revoked_at", "reason", "avatars", "recording"):
        value = told[name]
        if value:
            text = ", ".join(value) if isinstance(value, list) else str(value)
            say(f"  {name.replace('_', ' ')}: {console.printable(text)}", soft_wrap=True)
    if told["statement"]:
        say(f"  statement ({told['statement_version']}): {console.printable(told['statement'])}", soft_wrap=True)


@consent.command()
def revoke(
    consent_id: ConsentId,
    reason: Annotated[str, typer.Option(help="Why, for the ledger.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    unknown: Annotated[bool, typer.Option("--unknown", help="Refuse it from now on, though no avatar has it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Take a consent back for good: delete all that was made with it, here and at the provider. Asks first.

    Exit code 1 if something could not be deleted yet. It is refused all the same; call again, or leave it to the
    schedule that does.
    """
    from avatar_pipeline.stages.revocation import revoke_consent

    if not yes:
        typer.confirm(f"Take {consent_id} back, and delete all that was made with it?", abort=True, err=True)
    with open_line() as line:
        done = revoke_consent(line, consent_id, reason=reason, even_unknown=unknown)
        _forget_runs(line, done.avatars)
    if as_json:
        console.say_json(asdict(done))
    else:
        console.out.print(
            f"Revoked {done.consent_id}: {len(done.avatars)} avatars deleted ({', '.join(done.avatars) or 'none'}), "
            f"{done.refused} requests refused.",
            soft_wrap=True,
        )
        for sentence in done.left:
            console.out.print(f"  left: {sentence}", soft_wrap=True)
    if done.left:
        raise typer.Exit(1)


def _forget_runs(line: Line, avatar_ids: tuple[str, ...]) -> None:
    """Have Dagster forget what it knows of the avatars: its events hold pictures and texts."""
    from avatar_pipeline.launch import BUILD_AVATAR, MAKE_CLIP_BATCH, forget_partitions, forget_runs, open_instance

    if not avatar_ids:
        return
    forget_partitions(line.settings, BUILD_AVATAR, avatar_ids)
    alone = [name for avatar_id in avatar_ids for name in batches_of(line, avatar_id)]
    forget_partitions(line.settings, MAKE_CLIP_BATCH, alone)
    shared = {name for avatar_id in avatar_ids for name in line.requests.finished_batches_of(avatar_id)}
    with open_instance(line.settings) as instance:
        forget_runs(instance, MAKE_CLIP_BATCH, sorted(shared - set(alone)))


def _known(line: Line) -> list[Known]:
    revoked = {one.consent_id: one for one in line.consents.all()}
    records: dict[str, ConsentRecord] = {}
    avatars: dict[str, list[str]] = {}
    for avatar in line.ledger.avatars():
        records[avatar.consent.consent_id] = avatar.consent
        avatars.setdefault(avatar.consent.consent_id, []).append(avatar.id)
    return [
        Known(
            consent_id=name,
            record=records.get(name),
            avatars=tuple(avatars.get(name, ())),
            revoked_at=revoked[name].revoked_at if name in revoked else None,
            reason=revoked[name].reason if name in revoked else "",
        )
        for name in [*records, *(name for name in revoked if name not in records)]
    ]


def _as_dict(one: Known, now: datetime) -> dict[str, Any]:
    record = {} if one.record is None else one.record.model_dump(mode="json")
    fields = {name: record.get(name) for name in ConsentRecord.model_fields if name != "version"}
    revoked_at = fields["revoked_at"] if one.revoked_at is None else one.revoked_at.isoformat()
    return fields | {
        "consent_id": one.consent_id,
        "scope": sorted(record.get("scope", [])),
        "state": one.state(now),
        "avatars": list(one.avatars),
        "revoked_at": revoked_at,
        "reason": one.reason,
    }

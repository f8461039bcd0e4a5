"""Retention: uploads whose time is over, and what nobody owns any more. Called again, it goes on where it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from avatar_pipeline.consent import ConsentRecord
from avatar_pipeline.errors import EnvironmentProblem, NotFound
from avatar_pipeline.ledger.retention import NamedUpload, known_owners, long_ready, uploads_named_by
from avatar_pipeline.stages.intake import UPLOAD, UPLOAD_DELETION
from avatar_pipeline.stages.line import Line, produce
from avatar_pipeline.stages.uploads import beside, delete_upload, is_upload
from avatar_pipeline.store.artifacts import Draft, Recipe, Slot
from avatar_pipeline.store.checkpoints import Checkpoints
from avatar_pipeline.store.keys import Json
from avatar_pipeline.store.leftovers import checkpoints_left, drop_half_deleted, last_change, owners, slot_change

ORPHAN_AGE = timedelta(days=7)
"""A folder that nobody owns goes when nothing in it has changed for so long: what is made right now is never that old,
and whoever opened the wrong ledger, or brought back an old one, has as long to notice."""
FINISHED_AGE = timedelta(days=1)
"""The same for checkpoints of work that is finished, and for drafts."""
MOST = 1000
"""Owners, and checkpoints, deleted in one call; the rest goes with the next."""
DELETION_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Orphans:
    """What was swept: owners ('avatars/ada'), checkpoints ('avatars/ada/clips/<key>'), and how many drafts.

    `more`: there is more to sweep, which is left to the next call.
    """

    owners: list[str]
    checkpoints: list[str]
    drafts: int
    more: bool


def delete_old_uploads(line: Line, now: datetime) -> list[str]:
    """Delete the uploads of avatars that have been ready for longer than `keep_uploads_days`; return whose.

    An upload goes when the avatar's first greeting and the upload itself are both that old, so that one that was given
    again is kept as long again. With it go the files that the avatar's requests named in the uploads place. A note is
    left in its slot's place first, for whoever looks for the upload; that it is done is written into the ledger last.
    """
    days = line.settings.keep_uploads_days
    if days is None:
        return []
    before = now - timedelta(days=days)
    due = long_ready(line.ledger.engine, before, mark=UPLOAD_DELETION)
    named = uploads_named_by(line.ledger.engine, {avatar.avatar_id for avatar in due}) if due else {}
    deleted = []
    for avatar in due:
        kept_at = slot_change(line.store, Slot.avatar(avatar.avatar_id, UPLOAD))
        if (kept_at is None and avatar.marked) or (kept_at is not None and kept_at >= before):
            continue
        try:
            _delete_upload_of(line, avatar.avatar_id, named.get(avatar.avatar_id, []), now)
        except NotFound:
            # The avatar was removed meanwhile, and everything of it.
            continue
        deleted.append(avatar.avatar_id)
    return deleted


def sweep_orphans(line: Line, now: datetime) -> Orphans:
    """Delete what nobody owns or needs: folders of avatars and batches that the ledger does not know, old checkpoints.

    Whatever is being made is safe: an avatar or a batch is written into the ledger before the first file of it is
    written; the store is listed before the ledger is asked, and the ledger is asked again right before deleting; and
    nothing goes that changed lately. Chunks of unfinished work go when none was added for `ORPHAN_AGE`: should it be
    resumed after all, they are made again.

    Raises:
        EnvironmentProblem: the ledger knows fewer than half of what is in the store: most likely it is another store's.
    """
    found = [(collection, name) for collection in ("avatars", "clip-batches") for name in _orphans(line, collection)]
    old = []
    for collection, name in found:
        changed = last_change(line.store, collection, name)
        if changed is not None and changed < now - ORPHAN_AGE:
            old.append((collection, name))
    gone = [f"{collection}/{name}" for collection, name in old[:MOST] if _delete_orphan(line, collection, name)]
    stale = _stale_checkpoints(line, now)
    for slot, key in stale[:MOST]:
        line.store.drop_checkpoints(slot, key)
    drafts = line.store.sweep(now) + drop_half_deleted(line.store, now - FINISHED_AGE)
    chunks = ["/".join((*slot.parts, key)) for slot, key in stale[:MOST]]
    return Orphans(gone, chunks, drafts, more=len(old) > MOST or len(stale) > MOST)


def _delete_upload_of(line: Line, avatar_id: str, named: list[NamedUpload], now: datetime) -> None:
    """Delete one avatar's upload. The upload goes last of the files: while it is there, all is done again."""
    recipe = _deletion(line, avatar_id, now)

    def note(draft: Draft, _: Checkpoints) -> None:
        draft.facts |= recipe.params

    if line.store.find(recipe.slot, recipe.key) is None:
        with line.store.create(recipe) as draft:
            note(draft, line.store.checkpoints(recipe.slot, recipe.key))
    written = line.store.find(recipe.slot, recipe.key)
    if written is not None:
        line.store.point(written)
    delete_named(line, named, line.ledger.avatar(avatar_id).consent)
    line.store.delete_slot(Slot.avatar(avatar_id, UPLOAD))
    produce(line, recipe, note)


def delete_named(line: Line, named: Sequence[NamedUpload], consent: ConsentRecord) -> None:
    """Delete the files that an avatar's requests named in the uploads place, and the recording beside its consent."""
    for upload in named:
        if not is_upload(line.settings, upload.uri):
            continue
        if upload.field == "consent_uri" and consent.recording is not None:
            delete_upload(line.settings, beside(upload.uri, consent.recording), field="recording")
        delete_upload(line.settings, upload.uri, field=upload.field)


def _deletion(line: Line, avatar_id: str, now: datetime) -> Recipe:
    """Return the recipe of the note on a deletion: the one that was begun before, where the upload is gone already."""
    slot = Slot.avatar(avatar_id, UPLOAD_DELETION)
    begun = line.store.current(slot)
    if begun is not None and line.store.current(Slot.avatar(avatar_id, UPLOAD)) is None:
        return Recipe(slot, begun.code_version, begun.inputs, begun.params)
    params: dict[str, Json] = {"deleted_on": now.date().isoformat(), "keep_days": line.settings.keep_uploads_days}
    return Recipe(slot, DELETION_VERSION, {"upload": line.ledger.avatar(avatar_id).upload_key}, params)


def _orphans(line: Line, collection: str) -> list[str]:
    names = owners(line.store, collection)
    known = known_owners(line.ledger.engine, collection, names)
    unknown = [name for name in names if name not in known]
    if len(unknown) > len(known):
        raise EnvironmentProblem(
            f"The ledger knows {len(known)} of {len(names)} {collection} in {line.store.root}; nothing was deleted.",
            remedy="Check that AVATAR_LEDGER_URL and AVATAR_STORE belong together; delete by hand what is not wanted.",
        )
    return unknown


def _delete_orphan(line: Line, collection: str, name: str) -> bool:
    if known_owners(line.ledger.engine, collection, [name]):
        return False
    line.store.delete_owner(collection, name)
    return True


def _stale_checkpoints(line: Line, now: datetime) -> list[tuple[Slot, str]]:
    return [
        (slot, key)
        for (slot, key), changed in sorted(checkpoints_left(line.store).items(), key=lambda item: item[1])
        if changed < now - FINISHED_AGE and (changed < now - ORPHAN_AGE or line.store.find(slot, key) is not None)
    ]

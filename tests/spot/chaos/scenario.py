"""From a seed to a plan: a run, the cluster it runs in, what is done to it at which moments, and how it must end."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from avatar_pipeline.spot.types import CapacityType, Ending
from tests.spot.chaos.acts import BOOTING, GAP, GONE, KINDS, LATE, PHASES, RUNNING, Kind
from tests.spot.chaos.model import SPOT, Next, Past, Rules, spent, what_follows

SUCCESS, FAILURE, CANCELED = "SUCCESS", "FAILURE", "CANCELED"
_VARIANTS = 64
_DEADLINES = ("deadline", "deadline_hang")
_AFTER_A_DEADLINE = ("kill_pod", "exit_0", "exit_3", "error", "kill_node")
"""None that sends SIGTERM: so near to so short a deadline, a worker takes that for the deadline."""
_BEFORE_ITS_START = ("image", "image_invalid", "image_for_a_while", "no_spot", "no_capacity", "stuck_start")
_IN_A_GAP_AT_FIRST = ("outage", "drop", "drop_before", "delay", "fail_500", "fail_429")


@dataclass(frozen=True, slots=True)
class Shape:
    """A job of `steps`."""

    job: str
    steps: tuple[str, ...] = ("a",)
    guarded: bool = True
    retries: int = 0
    cpu_step: bool = False
    weight: int = 2


SHAPES = (
    Shape("guarded", weight=6),
    Shape("then_cpu", cpu_step=True),
    Shape("with_policy", retries=1, weight=4),
    Shape("unguarded", guarded=False, weight=2),
    Shape("unguarded_with_policy", guarded=False, retries=1, weight=2),
    Shape("two", ("a", "b"), weight=3),
)
WITH_DEADLINE = Shape("with_deadline", retries=1)


@dataclass(frozen=True, slots=True)
class Act:
    """One disturbance: `offset` seconds after its moment, and after `chunks` more of the attempt.

    `seconds` is how long it lasts, `calls` how many calls of `method` and `path` it spoils, or how many attempts.
    """

    kind: str
    phase: str
    offset: float = 0.0
    chunks: int = 1
    seconds: float = 0.0
    calls: int = 0
    method: str | None = None
    path: str = ""

    @property
    def of(self) -> Kind:
        """Its kind."""
        return KINDS[self.kind]

    @property
    def ends(self) -> bool:
        """Whether it ends the attempt, as a rule."""
        return bool(self.of.endings)


Life = tuple[Act, ...]
"""What befalls one attempt, in order; the last may end it."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A plan. `lives` are those of each step's attempts that anything befalls; `ends` how the run may end."""

    name: str
    shape: Shape
    rules: Rules
    supply: str
    chunks: int
    chunk_seconds: float
    lives: Mapping[str, tuple[Life, ...]] = field(default_factory=dict)
    ends: frozenset[str] = frozenset({SUCCESS})

    @property
    def acts(self) -> list[Act]:
        """All that is done."""
        return [act for lives in self.lives.values() for life in lives for act in life]

    def told(self) -> str:
        """Return it in one line."""
        steps = [
            f"{step}[{' | '.join(' '.join(f'{act.kind}@{act.phase}' for act in life) for life in lives)}]"
            for step, lives in self.lives.items()
        ]
        rules = f"ladder {self.rules.ladder}, budget {self.rules.budget}"
        return f"{self.shape.job}, {rules}, {self.supply}: {' '.join(steps)} -> {'/'.join(sorted(self.ends))}"


def scenario(seed: int, number: int) -> Scenario:
    """Return scenario `number` of a seed. Every kind is the chief act of some scenario in a row of as many."""
    order = sorted(KINDS)
    random.Random(f"order {seed}").shuffle(order)
    chance = random.Random(f"{seed}:{number}")
    return _Maker(chance, f"{seed}:{number}", KINDS[order[number % len(order)]]).make()


class _Maker:
    """Draws one scenario."""

    def __init__(self, chance: random.Random, name: str, chief: Kind) -> None:
        self.chance, self.name, self.chief = chance, name, chief
        self.deadline = chief.name in _DEADLINES

    def make(self) -> Scenario:
        chance = self.chance
        self.shape = self._shape()
        count = chance.choices((1, 2, 3, 4, 5), (3, 6, 6, 4, 3))[0]
        if self.deadline:
            count = min(count, 2)
        room = chance.choice((1, 2)) if chance.random() < 0.2 else 10
        self.rules = Rules(chance.choice((2, 2, 2, 2, 1, 3, 0)), room, self.shape.retries)
        if self.chief.name in ("no_spot", "no_capacity"):
            self.rules = Rules(max(1, self.rules.ladder), 10, self.shape.retries)
        lives: dict[str, tuple[Life, ...]] = {}
        fails: dict[str, set[bool]] = {}
        other = count // 2 if len(self.shape.steps) > 1 else 0
        for step, number in zip(self.shape.steps, (count - other, other), strict=False):
            lives[step], fails[step] = _Step(self, number, chief=step == "a").draw()
        chunks = 3 + max(sum(act.chunks for life in each for act in life) for each in lives.values())
        return Scenario(
            self.name,
            self.shape,
            self.rules,
            chance.choice(("nodes", "offerings", "mixed")),
            chunks,
            round(chance.uniform(0.04, 0.1), 3),
            lives,
            self._ends(lives, fails),
        )

    def _shape(self) -> Shape:
        if self.deadline:
            return WITH_DEADLINE
        fit = [
            shape
            for shape in SHAPES
            if len(shape.steps) == 1 or not (self.chief.alone or self.chief.name == "reexecuted" or self.late)
        ]
        return self.chance.choices(fit, [shape.weight for shape in fit])[0]

    @property
    def late(self) -> bool:
        """Whether the chief act comes when the work is done."""
        return self.chief.phases == (LATE,)

    def _ends(self, lives: Mapping[str, Sequence[Life]], fails: Mapping[str, set[bool]]) -> frozenset[str]:
        if any(act.kind == "cancel" for each in lives.values() for life in each for act in life):
            return frozenset({CANCELED})
        return frozenset(FAILURE if any(failed) else SUCCESS for failed in product(*fails.values()))


class _Step:
    """Draws what befalls the attempts of one step, and keeps every history that may come of it."""

    def __init__(self, maker: _Maker, count: int, *, chief: bool) -> None:
        self.maker, self.chance, self.count = maker, maker.chance, count
        self.chief = maker.chief if chief else None
        self.histories: set[tuple[Past, ...]] = {()}
        self.lives: list[list[Act]] = [[]]
        self.forgot = False
        self.since = 0

    def draw(self) -> tuple[tuple[Life, ...], set[bool]]:
        """Return the lives, and whether the step fails, or may."""
        comes_last = self.chief is not None and (self.chief.last or self.chief.phases == (LATE,))
        for number in range(self.count):
            chief = self.chief if number == (self.count - 1 if comes_last else 0) else None
            fit = [kind for kind in ([chief] if chief else KINDS.values()) if self._phases(kind)]
            if not chief and comes_last:
                fit = [kind for kind in fit if self._leaves_room(kind)]
            elif not chief and number < self.count - 1:
                fit = [kind for kind in fit if not (kind.last or LATE in kind.phases)]
            if not fit:
                continue
            kind = self.chance.choices(fit, [each.weight for each in fit])[0]
            self._add(kind, self.chance.choice(self._phases(kind)))
            over = {self._following(history).over for history in self.histories}
            if over != {""} or kind.last:
                break
        return tuple(tuple(life) for life in self.lives if life), self._fails()

    def _leaves_room(self, kind: Kind) -> bool:
        """Say whether the step is sure to go on after a disturbance of this kind."""
        if kind.last or LATE in kind.phases or not kind.endings <= GONE:
            return False
        return not kind.endings or all(spent(each[self.since :]) < self.maker.rules.budget for each in self.histories)

    def _fails(self) -> set[bool]:
        """Return whether the step fails, or may fail, in the end."""
        return {self._following(history).over.startswith("failure") for history in self.histories}

    def _following(self, history: tuple[Past, ...]) -> Next:
        return what_follows(history, self.maker.rules, forgot=self.forgot, since=self.since)

    def _capacities(self) -> frozenset[CapacityType]:
        """Return where the next attempt may run; empty where that may be none."""
        found: set[CapacityType] = set()
        for history in self.histories:
            following = self._following(history)
            if following.over:
                return frozenset()
            found |= following.capacity
        return frozenset(found)

    def _phases(self, kind: Kind) -> list[str]:
        """Return the moments at which a kind fits now."""
        life, shape = self.lives[-1], self.maker.shape
        first, alone = not life, len(shape.steps) == 1
        deadline = self.maker.deadline
        if deadline and kind is not self.maker.chief and kind.name not in _AFTER_A_DEADLINE:
            return []
        if kind.name in _DEADLINES and not (deadline and len(self.lives) == 1):
            return []
        if (kind.alone or kind.name == "reexecuted" or LATE in kind.phases) and not alone:
            return []
        if kind.name in ("no_spot", "no_capacity") and self._capacities() != {SPOT}:
            return []
        earliest = 0 if first else PHASES.index(life[-1].phase)
        phases = [phase for phase in kind.phases if PHASES.index(phase) >= earliest]
        if kind.name in _BEFORE_ITS_START and not all(act.phase == GAP for act in life):
            return []
        if any(act.kind in _BEFORE_ITS_START for act in life):
            phases = [phase for phase in phases if phase in (BOOTING, RUNNING)]
        if not first and GAP in phases and kind.of_run:
            phases.remove(GAP)
        if len(self.lives) == 1 and GAP in phases and kind.name not in _IN_A_GAP_AT_FIRST:
            phases.remove(GAP)
        if self.maker.deadline:
            phases = [phase for phase in phases if phase == RUNNING]
        return phases

    def _add(self, kind: Kind, phase: str) -> None:
        chance = self.chance
        act = Act(
            kind.name,
            phase,
            offset=round(chance.uniform(0.0, 0.6 if phase == BOOTING else 0.12), 3),
            chunks=chance.randint(1, 3) if phase == RUNNING else 0,
            seconds=round(_seconds(kind, chance), 2),
            calls=_calls(kind, chance),
            method=chance.choice((None, None, "GET", "POST", "DELETE"))
            if phase != GAP
            else chance.choice((None, "POST")),
            path=chance.choice(("", "/jobs")),
        )
        self.lives[-1].append(act)
        self.forgot |= kind.of_run
        if act.ends:
            self._end(act)
            self.lives.append([])

    def _end(self, act: Act) -> None:
        for _ in range(act.calls if act.kind == "no_capacity" else 1):
            after: set[tuple[Past, ...]] = set()
            for history in self.histories:
                capacities = self._following(history).capacity
                if act.kind == "no_capacity" and len(capacities) > 1:
                    # Of two kinds that were tried in vain, the one that was tried first may be tried first again.
                    capacities = frozenset(
                        {next(past.capacity for past in history if past.ending is Ending.NO_CAPACITY)}
                    )
                after |= {(*history, Past(ending, capacity)) for ending in act.of.endings for capacity in capacities}
            self.histories = set(sorted(after, key=str)[:_VARIANTS])
        if act.kind == "reexecuted":
            self.since = max(len(history) for history in self.histories)


def _seconds(kind: Kind, chance: random.Random) -> float:
    if kind.name == "reclaim_short":
        return chance.uniform(0.0, 0.05)
    if kind.name.startswith("outage"):
        return chance.uniform(0.4, 2.5)
    if kind.name == "image_for_a_while":
        return chance.uniform(0.1, 0.6)
    return chance.uniform(2.0, 4.0) if kind.name == "reclaim" else chance.uniform(0.2, 1.2)


def _calls(kind: Kind, chance: random.Random) -> int:
    if kind.name == "no_capacity":
        return chance.randint(2, 3)
    return chance.randint(1, 2) if kind.name == "fail_429" else chance.randint(1, 6)

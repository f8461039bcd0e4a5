"""The cost report: the same figures in its file, its page and its facts, and the same report for the same figures."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from avatar_pipeline.budget.types import AttemptEnd, Payer
from avatar_pipeline.errors import InvalidInput
from avatar_pipeline.ledger.costs import DoneClip
from avatar_pipeline.ledger.spend_schema import BudgetAlertRow
from avatar_pipeline.preview.images import MAX_BYTES
from avatar_pipeline.stages.clip_minutes import finished_minutes
from avatar_pipeline.stages.cost_facts import document, facts, matches_the_bill
from avatar_pipeline.stages.cost_page import cost_page
from avatar_pipeline.stages.cost_report import cost_figures, make_cost_report
from avatar_pipeline.stages.line import Line, StageResult
from avatar_pipeline.store.artifacts import Recipe, Slot
from tests.budget.costs.days import ON_DEMAND, SPOT, Studio
from tests.budget.costs.reports import item, other_use, write_csv
from tests.stages.benches import make_line

DAY = date(2026, 11, 10)
START = datetime(2026, 11, 10, tzinfo=UTC)
NEXT = START + timedelta(days=1)
HOUR = timedelta(hours=1)
MORNING = NEXT + HOUR / 2
BUDGETS = """
version: 1
budgets:
  - {name: everything, scope: all, day: 2, month: 4}
  - {name: tenants, scope: tenant, day: 100}
"""


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    """A line with budgets and a bill's place, whose clock stands at half past midnight of the day after."""
    (tmp_path / "budgets.yaml").write_text(BUDGETS)
    line = make_line(tmp_path, lambda: MORNING, budgets=tmp_path / "budgets.yaml", cur=str(tmp_path / "cur"))
    (tmp_path / "cur").mkdir()
    write_csv(tmp_path / "cur/report.csv", [])
    yield line
    line.ledger.close()


@pytest.fixture
def studio(line: Line) -> Studio:
    return Studio(line.ledger.engine, START)


def bill(line: Line, usd: str, *, days: int = 1) -> None:
    """AWS bills so much for the day's machines."""
    more = [one for day in range(days) for one in other_use(day)]
    write_csv(Path(line.settings.cur) / "report.csv", [item(usd), *more])


def told(line: Line, result: StageResult) -> dict:
    return json.loads(line.store.local(result.artifact, "report.json").read_text())


def page_of(line: Line, day: date = DAY) -> str:
    """The page without its pictures, which take longest."""
    return cost_page(cost_figures(line, day), [])


def facts_of(line: Line, day: date = DAY) -> dict[str, Any]:
    return facts(cost_figures(line, day))


def make_artifact(line: Line, name: str, seconds: float) -> str:
    """A clip of the avatar ada in the store; return its key."""
    recipe = Recipe(Slot.avatar("ada", "clips"), "1", {}, {"name": name})
    with line.store.create(recipe) as draft:
        (draft.folder / "clip.mp4").write_bytes(b"clip")
        draft.facts["seconds"] = seconds
    return recipe.key


def test_a_day_is_told_in_a_file_a_page_a_picture_and_facts(line: Line, studio: Studio) -> None:
    studio.avatar("ada", START + HOUR, minutes=30)
    for number, seconds in enumerate((30.0, 60.0)):
        key = make_artifact(line, str(number), seconds)
        studio.clip(f"r-{number}", START + (5 + number) * HOUR, 30, clip_key=key, characters=200)
    studio.work("rendered_clips", START + 9 * HOUR, 6, payer=Payer("globex", "bob"), spot=True, ending="vanished")
    bill(line, "1.00")
    result = make_cost_report(line, DAY)
    figures, found = told(line, result), result.facts
    total = Decimal(figures["total"]["usd"])
    clip = SPOT / 2 + Decimal("0.02")
    assert total == ON_DEMAND / 2 + 2 * clip + Decimal("0.076667")
    assert found["spend_usd"] == float(total)
    for name in ("by_tenant", "by_asset", "by_capacity", "by_ending"):
        assert sum(Decimal(each["usd"]) for each in figures[name].values()) == total
    assert sum(Decimal(each["usd"]) for each in figures["by_hour"]) == total
    assert found["clip_usd"] == found["clip_usd_p95"] == float(clip)
    assert found["minute_usd"] == float((2 * clip / Decimal("1.5")).quantize(Decimal("0.000001")))
    assert (found["clips_done"], found["avatars_ready"], found["characters"]) == (2, 1, 400)
    assert found["avatar_usd"] == pytest.approx(0.503 + 0.030667)
    assert (found["attempts_lost"], found["lost_usd"]) == (1, 0.046)
    assert found["saved_share"] == pytest.approx(1 - 0.46 / 1.006, abs=1e-4)
    assert (found["spot_usd"], found["on_demand_usd"], found["provider_usd"]) == (0.536667, 0.503, 0.04)
    assert found["tenants"] == ["acme: US$ 1.03", "globex: US$ 0.0460"]
    assert (found["bill"], found["partial"]) == ("matches", False)
    page = line.store.local(result.artifact, "report.html").read_text()
    assert "<small>US$</small> 1.08" in page
    assert "Tuesday, 10 November 2026, UTC" in page
    picture = line.store.local(result.artifact, "preview.jpg").read_bytes()
    assert len(picture) <= MAX_BYTES
    assert Image.open(io.BytesIO(picture)).format == "JPEG"


def test_a_day_on_which_nothing_was_spent_has_a_report(line: Line) -> None:
    result = make_cost_report(line, DAY)
    assert result.facts["spend_usd"] == 0
    assert "clip_usd" not in result.facts
    page = line.store.local(result.artifact, "report.html").read_text()
    assert "Nothing to look at." in page
    assert page.count("data:image/png;base64,") == 2


def test_the_same_figures_are_the_same_report_and_others_become_the_current_one(line: Line, studio: Studio) -> None:
    attempt = studio.work("landmarks", START + HOUR, 30, payer=Payer("acme", "ada"), ending=None)
    first = make_cost_report(line, DAY)
    assert make_cost_report(line, DAY).reused
    assert first.facts["unsettled"] == 1
    assert "Attempts without an end yet: 1." in page_of(line)
    studio.book.settle(attempt, AttemptEnd(START + 2 * HOUR, "vanished"))
    second = make_cost_report(line, DAY)
    assert second.artifact.key != first.artifact.key
    assert line.store.require_current(Slot("reports", "2026-11-10", "cost_report")).key == second.artifact.key


def test_what_is_spent_on_the_next_day_leaves_the_report_as_it_was(line: Line, studio: Studio) -> None:
    studio.work("landmarks", START + HOUR, 30, payer=Payer("acme", "ada"))
    first = make_cost_report(line, DAY)
    studio.work("landmarks", NEXT, 30, payer=Payer("acme", "ada"))
    assert make_cost_report(line, DAY).artifact.key == first.artifact.key


def test_a_day_that_is_not_over_is_marked(line: Line, studio: Studio) -> None:
    studio.work("landmarks", START + HOUR, 30, payer=Payer("acme", "ada"))
    line = replace(line, clock=lambda: START + 14 * HOUR + HOUR / 3)
    assert facts_of(line)["partial"]
    assert document(cost_figures(line, DAY))["until"] == "2026-11-10T14:15:00+00:00"
    page = page_of(line)
    assert "(so far)" in page
    assert "The day is not over: this is up to 2026-11-10 14:15 UTC." in page


def test_a_day_that_has_not_begun_is_refused(line: Line) -> None:
    with pytest.raises(InvalidInput, match="2026-11-12 has not begun"):
        make_cost_report(line, date(2026, 11, 12))


# Budgets


def test_budgets_are_told_with_what_is_expected_and_what_is_close(line: Line, studio: Studio) -> None:
    for hour in range(2, 20, 4):
        studio.work("landmarks", START - timedelta(days=1) + hour * HOUR, 2, payer=Payer("acme", "ada"))
    studio.work("landmarks", START + HOUR, 120, payer=Payer("acme", "ada"))
    studio.add(
        BudgetAlertRow(
            limit_id="everything/day",
            period_start=START,
            kind="actual",
            threshold=Decimal(1),
            share=Decimal(1),
            message="everything/day has reached 100 %.",
            at=START + 3 * HOUR,
        )
    )
    found, page = facts_of(line), page_of(line)
    assert (found["budget_share"], found["budget_share_of"]) == (1.006, "everything/day")
    assert found["forecast_share_of"] == "everything/month"
    assert found["forecast_share"] > 1
    assert "Budget everything/day is used up: 101 % of US$ 2.00." in page
    assert re.search(r"Budget everything/month is expected to come to [\d,]+ % of US\$ 4\.00\.", page)
    assert "03:00 everything/day has reached 100 %." in page
    assert [each["limit_id"] for each in document(cost_figures(line, DAY))["budgets"]] == [
        "everything/month",
        "everything/day",
        "tenants/day@tenant:acme",
    ]


def test_of_days_long_past_budgets_are_not_told(line: Line) -> None:
    line = replace(line, clock=lambda: MORNING + timedelta(days=30))
    assert document(cost_figures(line, DAY))["budgets"] is None
    assert "How budgets stood on a day long past is not kept." in page_of(line)


def test_without_budgets_the_page_says_so(tmp_path: Path) -> None:
    line = make_line(tmp_path, lambda: MORNING)
    page = page_of(line)
    line.ledger.close()
    assert "No budgets are configured" in page
    assert "No cost and usage report is configured (AVATAR_CUR)." in page


# The bill


def test_a_bill_that_says_more_than_five_per_cent_more_fails_the_check_and_is_told_first(
    line: Line, studio: Studio
) -> None:
    studio.work("landmarks", START + HOUR, 60, payer=Payer("acme", "ada"))
    bill(line, "1.10")
    found = facts_of(line)
    verdict = matches_the_bill(found)
    assert (verdict.passed, verdict.warns) == (False, True)
    assert verdict.description == ("Not within 5% of the bill. 2026-11-10: US$ 1.01 recorded, 1.10 billed (−8.5 %).")
    assert "2026-11-10: we recorded 8.5 % less for machines than AWS billed" in page_of(line)
    later = replace(line, clock=lambda: MORNING + timedelta(days=2))
    assert not matches_the_bill(facts_of(later, DAY + timedelta(days=1))).passed
    assert "drift_share" not in facts_of(later, DAY + timedelta(days=1))


def test_a_bill_within_five_per_cent_passes(line: Line, studio: Studio) -> None:
    studio.work("landmarks", START + HOUR, 60, payer=Payer("acme", "ada"))
    bill(line, "1.05")
    verdict = matches_the_bill(facts_of(line))
    assert verdict.passed
    assert verdict.figures == {"worst_drift_share": 0.041905}
    found = facts_of(line)
    assert (found["recorded_usd"], found["billed_usd"], found["drift_share"]) == (1.006, 1.05, 0.041905)


def test_only_machines_are_compared(line: Line, studio: Studio) -> None:
    studio.clip("r-1", START + HOUR, 60, characters=100_000)
    bill(line, "0.46")
    assert facts_of(line)["bill"] == "matches"


def test_a_bill_that_is_not_so_far_yet_passes_with_a_word_and_is_compared_when_it_is(
    line: Line, studio: Studio
) -> None:
    studio.work("landmarks", START + HOUR, 60, payer=Payer("acme", "ada"))
    write_csv(Path(line.settings.cur) / "report.csv", [item("3")])
    verdict = matches_the_bill(facts_of(line))
    assert verdict.passed
    assert verdict.description == "Not compared: the bill is not so far yet; it tells of 2026-11-10 01:00 UTC."
    bill(line, "3")
    assert not matches_the_bill(facts_of(line)).passed


def test_a_bill_that_cannot_be_read_fails_the_check_and_not_the_report(line: Line, studio: Studio) -> None:
    studio.work("landmarks", START + HOUR, 60, payer=Payer("acme", "ada"))
    write_csv(Path(line.settings.cur) / "report.csv", [item("1")], leave=["cost"])
    found = facts_of(line)
    verdict = matches_the_bill(found)
    assert not verdict.passed
    assert "report.csv, column line_item_unblended_cost: it is not there" in verdict.description
    assert found["spend_usd"] == float(ON_DEMAND)
    assert "report.csv, column line_item_unblended_cost" in page_of(line)


def test_only_what_has_our_tag_is_compared(line: Line, studio: Studio) -> None:
    studio.work("landmarks", START + HOUR, 60, payer=Payer("acme", "ada"))
    items = [item("1", tag="avatars"), item("50", tag="else"), *other_use()]
    write_csv(Path(line.settings.cur) / "report.csv", items)
    assert facts_of(line)["bill"] == "drifts"
    ours = replace(line, settings=line.settings.model_copy(update={"cur_tag": "project=avatars"}))
    assert facts_of(ours)["bill"] == "matches"
    wrong = replace(line, settings=line.settings.model_copy(update={"cur_tag": "avatars"}))
    assert "AVATAR_CUR_TAG" in matches_the_bill(facts_of(wrong)).description


def test_without_a_bill_the_check_passes_with_a_word() -> None:
    verdict = matches_the_bill({"bill": "not configured"})
    assert verdict.passed
    assert "no cost and usage report is configured" in verdict.description


# The page


class Reader(HTMLParser):
    """Collects tags that are open, and every address that the page names."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "action"}]


def test_the_page_needs_nothing_else_and_names_are_only_names_in_it(line: Line, studio: Studio) -> None:
    studio.work("landmarks", START + HOUR, 60, payer=Payer("<script>alert(1)</script>", "ada"))
    page = cost_page(cost_figures(line, DAY), [("A chart", b"PNG")])
    reader = Reader()
    reader.feed(page)
    assert reader.addresses == ["data:image/png;base64,UE5H"]
    assert not reader.tags & {"script", "link", "iframe"}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "url(" not in page


def test_of_very_many_tenants_the_rest_is_summed_up(line: Line, studio: Studio) -> None:
    for number in range(30):
        studio.work("landmarks", START + number * HOUR / 2, 1, payer=Payer(f"tenant-{number:02d}", "ada"))
    assert "6 others" in page_of(line)
    assert len(document(cost_figures(line, DAY))["by_tenant"]) == 30


# Minutes


def test_of_very_many_clips_the_minutes_are_those_of_a_sample_that_is_always_the_same(line: Line) -> None:
    keys = [make_artifact(line, str(number), 10.0 + number) for number in range(8)]
    clips = [DoneClip(f"r-{number}", "ada", key, Decimal(number)) for number, key in enumerate(keys)]
    found = finished_minutes(line.store, clips, most=3)
    assert (found.clips, found.known) == (8, 3)
    assert found == finished_minutes(line.store, clips[::-1], most=3)
    every = finished_minutes(line.store, clips)
    assert (every.known, every.seconds, every.cost) == (8, Decimal(sum(range(10, 18))), Decimal(28))
    assert every.per_minute == Decimal(28) * 60 / Decimal(108)


def test_clips_that_are_gone_are_left_out_with_their_cost(line: Line) -> None:
    clips = [
        DoneClip("r-1", "ada", make_artifact(line, "1", 60.0), Decimal(1)),
        DoneClip("r-2", "ada", "gone", Decimal(50)),
        DoneClip("r-3", "ada", None, Decimal(50)),
    ]
    found = finished_minutes(line.store, clips)
    assert (found.clips, found.known, found.per_minute) == (3, 1, 1)
    assert finished_minutes(line.store, []).per_minute is None

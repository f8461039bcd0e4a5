"""`avatar budget`: what stands, what is changed, and why a request is where it is, in words and as JSON."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from sqlalchemy import text

from avatar_pipeline.budget.budgets_file import plan_from
from avatar_pipeline.budget.config import load_plan
from avatar_pipeline.budget.types import Amounts, AttemptEnd, AttemptStart, Demand, Payer, ProviderCharge
from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.errors import InvalidInput, InvalidText
from avatar_pipeline.ledger.messages import AvatarRequest
from avatar_pipeline.ledger.requests import Arrival
from avatar_pipeline.stages.admission import sift
from avatar_pipeline.stages.build_budget import Builds
from avatar_pipeline.stages.line import Line
from tests.cli.test_requests import arrive, know_avatar
from tests.conftest import avatar_environment

ROOT = Path(__file__).parents[2]
BUDGETS = {
    "version": 1,
    "timezone": "Europe/Berlin",
    "budgets": [
        {"name": "everything", "scope": "all", "day": 200, "rolling_24h": 300},
        {"name": "tenants", "scope": "tenant", "day": "1.20"},
        {"name": "voices", "scope": "provider:elevenlabs", "unit": "characters", "month": 1000},
    ],
    "caps": {"clip": "0.50"},
    "alerts": {"url": "https://receiver.test/alerts?token=hunter2"},
}
SIGNED = ("--reason", "A launch.", "--who", "ann")
Budgets = Callable[..., None]


@pytest.fixture
def budgets(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Budgets:
    """Write a file of budgets, with changes."""

    def write(**changes: object) -> None:
        (tmp_path / "budgets.yaml").write_text(yaml.safe_dump(BUDGETS | changes))
        monkeypatch.setenv("AVATAR_BUDGETS", str(tmp_path / "budgets.yaml"))

    write()
    return write


@pytest.fixture
def line(budgets: Budgets):
    with open_line() as line:
        yield line


def spend(line: Line, usd: str, *, tenant: str = "acme", characters: str = "0") -> None:
    charge = ProviderCharge(
        key=f"{tenant}-{usd}-{characters}-{line.clock()}",
        provider="elevenlabs",
        reservation=None,
        payer=Payer(tenant=tenant, provider="elevenlabs"),
        asset="synthesized_speech",
        usd=Decimal(usd),
        characters=Decimal(characters),
        at=line.clock(),
    )
    assert line.spend.charge(charge)


def said(avatar, *arguments: object) -> str:
    code, out, err = avatar("budget", *arguments)
    assert (code, err) == (0, "")
    return out


def read(avatar, *arguments: object):
    return json.loads(said(avatar, *arguments, "--json"))


def by_name(shown) -> dict[str, dict]:
    return {one["budget"]: one for one in shown["budgets"]}


# Showing


def test_without_budgets_it_says_that_nothing_is_held(avatar) -> None:
    assert "There are no budgets" in said(avatar, "show")
    assert read(avatar, "show")["budgets"] == []


def test_budgets_are_shown_with_what_was_spent_reserved_and_is_left(avatar, line: Line) -> None:
    spend(line, "0.40", characters="250")
    line.spend.admit(Demand("k", "clip", Payer("acme"), Amounts(compute=Decimal("0.50"))))
    line.budgets.set("tenants/day", Decimal(2), who="ann", reason="A launch.")
    line.budgets.override(
        "tenants/day@tenant:acme", Decimal(3), until=line.clock() + timedelta(hours=2), who="bob", reason="A demo."
    )
    rows = {row.split()[0]: row for row in said(avatar, "show").splitlines()}
    assert set(rows) > {"everything/day", "everything/rolling_24h", "voices/month", "tenants/day@tenant:acme"}
    acme = rows["tenants/day@tenant:acme"]
    for told in ("5.00", "0.40", "0.50", "4.10", "8 %", "ann (file: 1.20)", "overrides +3.00", "CE"):
        assert told in acme, told
    assert "250" in rows["voices/month"]
    assert "adds US$ 3.00 until" in said(avatar, "show")
    shown = read(avatar, "show")
    assert shown["timezone"] == "Europe/Berlin"
    one = by_name(shown)["tenants/day@tenant:acme"]
    exact = {name: Decimal(one[name]) for name in ("hard", "spent", "reserved", "left", "file_value", "carried")}
    assert exact == {
        "hard": Decimal(5),
        "spent": Decimal("0.40"),
        "reserved": Decimal("0.50"),
        "left": Decimal("4.10"),
        "file_value": Decimal("1.20"),
        "carried": Decimal(0),
    }
    assert one["set_by"]["who"] == "ann"
    assert [override["amount"] for override in one["overrides"]] == ["3"]
    assert by_name(shown)["everything/rolling_24h"]["forecast"] is None
    assert by_name(shown)["everything/day"]["forecast"]["hours_seen"] == 0


def test_the_budgets_of_one_tenant_are_those_its_spending_counts_against(avatar, line: Line) -> None:
    spend(line, "0.10", tenant="acme")
    spend(line, "0.20", tenant="umbrella")
    found = by_name(read(avatar, "show", "--tenant", "umbrella"))
    assert set(found) == {"everything/day", "everything/rolling_24h", "tenants/day@tenant:umbrella"}
    unspent = by_name(read(avatar, "show", "--tenant", "nobody"))
    assert Decimal(unspent["tenants/day@tenant:nobody"]["left"]) == Decimal("1.20")
    assert [one["budget"] for one in read(avatar, "show")["each"]] == ["tenants/day"]
    assert "tenants/day: US$ 1.20 a day for each tenant" in said(avatar, "show")
    assert "tenants/day@tenant:nobody" not in by_name(read(avatar, "show", "--avatar", "ada"))


def test_of_many_the_fullest_are_shown(avatar, line: Line) -> None:
    for number in range(5):
        spend(line, f"0.{number}1", tenant=f"t-{number}")
    shown = read(avatar, "show", "--limit", "5")
    assert shown["more"] == 3
    assert [one["budget"] for one in shown["budgets"]][3:] == ["tenants/day@tenant:t-4", "tenants/day@tenant:t-3"]
    assert "3 more" in said(avatar, "show", "--limit", "5")


def test_what_waits_for_a_budget_is_counted(avatar, line: Line) -> None:
    know_avatar(line)
    arrive(line, "r-1", "r-2", "r-3", "r-4", tenant="acme")
    assert sift(line).held == 2
    assert by_name(read(avatar, "show", "--tenant", "acme"))["tenants/day@tenant:acme"]["held"] == 2


# Changing


def test_a_limit_is_set_and_cleared(avatar, line: Line) -> None:
    assert "everything/day: US$ 250.00 a day (the file says 200.00)" in said(
        avatar, "set", "everything/day", "250", *SIGNED
    )
    assert Decimal(by_name(read(avatar, "show"))["everything/day"]["hard"]) == 250
    assert "US$ 200.00 a day, 0.00 spent" in said(avatar, "set", "everything/day", "--clear", *SIGNED)
    assert said(avatar, "set", "everything/day", "--clear", *SIGNED).startswith("Nothing was set. everything/day: ")
    assert [(one["action"], one["who"], one["reason"]) for one in read(avatar, "changes")] == [
        ("set", "ann", "A launch."),
        ("clear", "ann", "A launch."),
    ]


def test_one_tenants_limit_is_set_before_it_spent_anything(avatar, line: Line) -> None:
    assert "US$ 7.00 a day" in said(avatar, "set", "tenants/day@tenant:acme", "7", *SIGNED)
    assert "nothing is spent under it yet" in said(avatar, "set", "tenants/day", "7", *SIGNED)
    changed = read(avatar, "set", "tenants/day@tenant:acme", "8", *SIGNED)
    assert [one["hard"] for one in changed["budgets"]] == ["8"]


def test_who_is_the_user_where_nobody_is_named(avatar, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "operator")
    said(avatar, "set", "everything/day", "250", "--reason", "A launch.")
    assert read(avatar, "changes")[0]["who"] == "operator"


def test_an_override_ends_or_is_revoked(avatar, line: Line) -> None:
    told = said(avatar, "override", "everything/day", "--add", "50", "--for", "2h", *SIGNED)
    assert "US$ 250.00 a day" in told
    until = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    second = read(avatar, "override", "everything/day", "--add", "0.5", "--until", until, *SIGNED)
    assert Decimal(second["budgets"][0]["hard"]) == Decimal("250.5")
    first = re.search(r"Override (\w+), until", told)
    assert first is not None
    assert "US$ 200.50 a day" in said(avatar, "override", "--revoke", first[1], *SIGNED)
    rows = said(avatar, "changes").splitlines()
    assert "revoked" in rows[1]
    assert f"revoke {first[1]}" in rows[3]
    assert len(read(avatar, "changes", "everything/day")) == 3


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["set", "nothing/day", "1", *SIGNED], "There are: everything/day"),
        (["set", "everything/day", "much", *SIGNED], "'much' is not a number"),
        (["set", "everything/day", "-1", *SIGNED], "No such option"),
        (["set", "everything/day", "0.0000001", *SIGNED], "6 places"),
        (["set", "everything/day", "NaN", *SIGNED], "not a number"),
        (["set", "everything/day", "١", *SIGNED], "not a number"),
        (["set", "everything/day", "1,50", *SIGNED], "not a number"),
        (["set", "everything/day", "1e3", *SIGNED], "not a number"),
        (["set", "everything/day", "1000000000000.1", *SIGNED], "1,000,000,000,000"),
        (["set", "everything/day", *SIGNED], "AMOUNT or --clear"),
        (["set", "everything/day", "1", "--clear", *SIGNED], "AMOUNT or --clear"),
        (["set", "everything/day", "1", "--who", "ann"], "reason"),
        (["override", "everything/day", "--for", "2h", *SIGNED], "--add"),
        (["override", "everything/day", "--add", "1", *SIGNED], "--for and --until"),
        (["override", "everything/day", "--add", "1", "--for", "2h", "--until", "x", *SIGNED], "--for and --until"),
        (["override", "everything/day", "--add", "1", "--for", "soon", *SIGNED], "span of time"),
        (["override", "everything/day", "--add", "1", "--for", "999999d", *SIGNED], "90 days"),
        (["override", "everything/day", "--add", "1", "--until", "2020-01-01T00:00:00Z", *SIGNED], "is over"),
        (["override", "everything/day", "--add", "1", "--until", "2020-01-01", *SIGNED], "no time zone"),
        (["override", "everything/day", "--add", "1", "--until", "soon", *SIGNED], "not a time"),
        (["override", "--revoke", "nothing", *SIGNED], "no override"),
        (["override", "everything/day", "--revoke", "x", *SIGNED], "goes with nothing"),
        (["explain", "nobody"], "no request 'nobody'"),
        (["explain", "../etc/passwd"], "request id"),
        (["changes", "nothing/day"], "There are: everything/day"),
        (["show", "--tenant", "A B"], "tenant"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: list[str], told: str, avatar, budgets: Budgets) -> None:
    code, out, err = avatar("budget", *arguments)
    assert code == 2
    assert told in err
    assert "Traceback" not in out + err
    if "No such option" not in told:
        assert err.startswith("error: ")
        assert (out, err.count("\n")) == ("", 1)
        code, out, _ = avatar("budget", *arguments, "--json")
        assert code == 2
        assert told in json.loads(out)["error"]["message"] + json.loads(out)["error"]["remedy"]


def test_a_file_that_cannot_be_used_stops_every_command(avatar, budgets: Budgets) -> None:
    budgets(budgets=[{"name": "everything", "scope": "all", "day": "much"}])
    for command in (["show"], ["changes"], ["alerts"], ["explain", "r-1"]):
        code, _, err = avatar("budget", *command)
        assert code == 2
        assert "budgets.yaml: budgets[0] (everything): day" in err


# Explaining


def test_a_held_clip_is_told_its_budget_the_figures_and_when_it_is_tried_again(avatar, line: Line) -> None:
    know_avatar(line)
    spend(line, "0.90")
    arrive(line, "r-1", tenant="acme")
    assert sift(line).held == 1
    out = said(avatar, "explain", "r-1")
    assert "It is held by the budget tenants/day@tenant:acme." in out
    assert "may spend US$ 1.20 a day" in out
    assert "0.90 is spent and 0.00 is reserved" in out
    assert "This takes up to US$ 0.50, and US$ 0.30 is left: 0.20 is missing." in out
    assert "when the period turns" in out
    assert "holds it" in next(row for row in out.splitlines() if row.lstrip().startswith("tenants/day"))
    told = read(avatar, "explain", "r-1")
    assert told["held_by"] == told["binding"]["budget"] == "tenants/day@tenant:acme"
    assert Decimal(told["asked"]) == Decimal("0.50")
    assert told["retry_at"] == told["binding"]["turns_at"]
    assert told["now"]["decision"] == "hold"
    assert {one["budget"]: Decimal(one["asked"]) for one in told["budgets"]} == {
        "everything/day": Decimal("0.50"),
        "everything/rolling_24h": Decimal("0.50"),
        "tenants/day@tenant:acme": Decimal("0.50"),
    }


def test_what_no_period_will_ever_pay_for_is_tried_when_the_limit_is_raised(avatar, line: Line) -> None:
    know_avatar(line)
    line.budgets.set("tenants/day", Decimal("0.30"), who="ann", reason="Save.")
    arrive(line, "r-1", tenant="acme")
    sift(line)
    assert "only once the limit is raised" in said(avatar, "explain", "r-1")
    assert read(avatar, "explain", "r-1")["retry_at"] is None


def test_a_held_clip_that_there_is_room_for_by_now_waits_for_the_sensor(avatar, line: Line) -> None:
    know_avatar(line)
    spend(line, "0.90")
    arrive(line, "r-1", tenant="acme")
    sift(line)
    assert "1 requests are held by it" in said(avatar, "set", "tenants/day@tenant:acme", "9", *SIGNED)
    out = said(avatar, "explain", "r-1")
    assert "there is room for it now" in out
    told = read(avatar, "explain", "r-1")
    assert (told["now"]["decision"], told["binding"]) == ("admit", None)
    assert told["retry_at"] == told["held_until"]


def test_a_held_clip_that_another_budget_holds_by_now_is_told_both(avatar, line: Line) -> None:
    know_avatar(line)
    spend(line, "0.90")
    arrive(line, "r-1", tenant="acme")
    sift(line)
    line.budgets.set("tenants/day", Decimal(9), who="ann", reason="A launch.")
    line.budgets.set("everything/day", Decimal(1), who="ann", reason="A launch.")
    out = said(avatar, "explain", "r-1")
    assert "It is held by the budget everything/day." in out
    assert "At first it was held by tenants/day@tenant:acme: " in out


def test_a_queued_clip_is_told_what_the_gate_would_say_and_who_comes_before(avatar, line: Line) -> None:
    know_avatar(line)
    arrive(line, "r-1", "r-2", tenant="acme")
    out = said(avatar, "explain", "r-2")
    assert "It is queued." in out
    assert "It may begin." in out
    assert "may take the room first: 1." in out
    told = read(avatar, "explain", "r-2")
    assert (told["state"], told["now"]["decision"], told["ahead"]) == ("queued", "admit", 1)
    arrive(line, "r-3", avatar_id="bob")
    assert "bob is not known yet" in said(avatar, "explain", "r-3")


def test_a_clip_at_work_is_told_what_is_reserved_for_it(avatar, line: Line) -> None:
    know_avatar(line)
    arrive(line, "r-1", tenant="acme")
    assert line.requests.claim("batch-1", 10)
    out = said(avatar, "explain", "r-1")
    assert "It is claimed in batch batch-1." in out
    assert "US$ 0.50 is reserved for it, of which US$ 0.00 is spent and US$ 0.50 is left." in out
    line.requests.begin("r-1", max_attempts=5)
    told = read(avatar, "explain", "r-1")
    assert told["state"] == "running"
    assert told["reservation"]["key"] == "clip/r-1/0"
    assert Decimal(told["reservation"]["left"]["usd"]) == Decimal("0.50")
    assert "It is being worked on in batch batch-1." in said(avatar, "explain", "r-1")


def test_a_finished_clip_is_told_what_it_cost(avatar, line: Line) -> None:
    know_avatar(line)
    arrive(line, "r-1", tenant="acme")
    line.requests.claim("batch-1", 10)
    line.requests.begin("r-1", max_attempts=5)
    began = line.clock() - timedelta(seconds=90)
    line.spend.begin(
        AttemptStart(
            key="run/rendered_clips/0",
            run_id="run",
            step_key="rendered_clips",
            number=0,
            asset="rendered_clips",
            partition="batch-1",
            started_at=began,
            price_per_hour=Decimal(1),
            price_source="test",
        ),
        {"clip/r-1/0": 1},
    )
    line.spend.settle("run/rendered_clips/0", AttemptEnd(at=began + timedelta(seconds=36), ending="done"))
    line.requests.finish("r-1", clip_key=None)
    out = said(avatar, "explain", "r-1")
    assert "It is done." in out
    assert "It cost US$ 0.01 (rendered_clips 0.01): 36.0 s of machines." in out
    assert "US$ 0.50 was reserved for it; what was not needed is given back." in out
    told = read(avatar, "explain", "r-1")
    assert Decimal(told["cost"]["usd"]) == Decimal(told["cost"]["usd_by_asset"]["rendered_clips"]) == Decimal("0.01")
    assert told["reservation"]["state"] == "settled"
    assert told["binding"] is None


def test_a_clip_that_failed_is_told_why(avatar, line: Line) -> None:
    know_avatar(line)
    arrive(line, "r-1", tenant="acme")
    line.requests.fail("r-1", InvalidText("It is\x1b[2J mute.", remedy="None."))
    assert "It failed: It is·[2J mute." in said(avatar, "explain", "r-1")


def test_a_clip_that_something_else_holds_is_told_so(avatar, line: Line) -> None:
    know_avatar(line)
    arrive(line, "r-1", tenant="acme")
    until = line.clock() + timedelta(hours=1)
    line.requests.hold("r-1", "quota_exhausted: elevenlabs has no credits left.", until)
    out = said(avatar, "explain", "r-1")
    assert "held, and not by a budget: quota_exhausted: elevenlabs has no credits left." in out
    told = read(avatar, "explain", "r-1")
    assert (told["binding"], told["held_by"]) == (None, None)
    assert told["retry_at"] == told["held_until"] == until.isoformat()


def test_an_avatar_that_a_budget_holds_is_told_its_figures(avatar, line: Line, budgets: Budgets) -> None:
    line.budgets.set("tenants/day", Decimal(20), who="ann", reason="A launch.")
    maker = AvatarRequest(request_id="make-bob", avatar_id="bob", video_uri="/u/v", consent_uri="/u/c", tenant="acme")
    line.requests.take_in([Arrival(maker, line.clock())])
    assert "It may begin." in said(avatar, "explain", "make-bob")
    spend(line, "19")
    error = Builds(line).refused(maker)
    assert error is not None
    assert line.requests.hold_for_budget("make-bob", error, line.clock())
    out = said(avatar, "explain", "make-bob")
    assert "It is held by the budget tenants/day@tenant:acme." in out
    assert "19.00 is spent and 0.00 is reserved" in out
    assert "This takes up to US$ 2.00, and US$ 1.00 is left" in out
    assert "It is tried again by itself at" in out
    told = read(avatar, "explain", "make-bob")
    assert told["binding"]["budget"] == told["held_by"] == "tenants/day@tenant:acme"
    assert told["retry_at"] == told["held_until"] == told["binding"]["turns_at"]


# Alerts


def test_alerts_are_listed_with_what_became_of_their_webhooks(avatar, line: Line) -> None:
    assert "No threshold was crossed" in said(avatar, "alerts")
    start = datetime(2026, 3, 1, tzinfo=UTC)
    line.budgets.raise_alert(
        "everything/day", start, "actual", Decimal("0.8"), Decimal("0.81"), "80 %\x1b[2J.", url=line.plan.alerts_url
    )
    line.budgets.raise_alert("everything/day", start, "forecast", Decimal(1), Decimal("1.2"), "It will be passed.")
    out = said(avatar, "alerts")
    assert "pending (receiver.test)" in out
    assert "80 %·[2J." in out
    found = {one["kind"]: one for one in read(avatar, "alerts")}
    assert found["actual"]["webhook"]["state"] == "pending"
    assert found["forecast"]["webhook"] is None
    assert "hunter2" not in out + json.dumps(found)


def test_changes_are_none_at_first(avatar, budgets: Budgets) -> None:
    assert "Nothing was ever changed" in said(avatar, "changes")


# What is written about it


def test_the_example_can_be_used_as_it_is() -> None:
    plan = load_plan(ROOT / "docs/examples/budgets.yaml")
    assert {rule.rule_id for rule in plan.rules} >= {"everything/day", "tenants/day", "acme/day", "avatars/day"}
    assert plan.alerts_url


def test_every_budget_in_the_page_can_be_used() -> None:
    page = (ROOT / "docs/budget.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```", page, flags=re.M | re.S)
    assert blocks
    for block in blocks:
        assert plan_from(yaml.safe_load(block), "docs/budget.md").rules


@pytest.mark.parametrize(
    "content",
    [
        {"version": 1, "nothing": 1},
        {"version": 1, "budgets": [{"name": "a", "scope": "all", "day": 1, "nothing": 1}]},
        {
            "version": 1,
            "budgets": [{"name": "a", "scope": "all", "day": 1, "degrade": {"at": 1, "priority": -1, "nothing": 1}}],
        },
        {"version": 1, "caps": {"clip": {"usd": 1, "nothing": 1}}},
        {"version": 1, "alerts": {"url": "https://receiver.test/", "nothing": 1}},
    ],
)
def test_the_page_explains_every_key(content: dict) -> None:
    with pytest.raises(InvalidInput) as caught:
        plan_from(content, "budgets.yaml")
    names = caught.value.remedy.removeprefix("The fields here are ").removesuffix(".").split(", ")
    assert len(names) > len(content) - 2
    page = (ROOT / "docs/budget.md").read_text()
    for name in names:
        assert f"`{name}`" in page or f"{{{name}: " in page, name


def test_the_statements_in_the_page_run(line: Line) -> None:
    page = (ROOT / "docs/budget.md").read_text()
    (block,) = re.findall(r"^```sql\n(.*?)^```", page, flags=re.M | re.S)
    statements = [one for one in block.split(";") if one.strip()]
    assert len(statements) == 5
    spend(line, "0.90", characters="30")
    with line.ledger.engine.connect() as connection:
        found = [connection.execute(text(statement)).all() for statement in statements]
    assert [row.usd for row in found[0]] == [0.9]


def test_the_commands_in_the_page_are_there(avatar, line: Line) -> None:
    page = (ROOT / "docs/budget.md").read_text()
    named = set(re.findall(r"avatar budget ([a-z]+)", page))
    assert named == {"show", "set", "override", "explain", "alerts", "changes", "prices"}
    for name in named:
        assert avatar("budget", name, "--help")[0] == 0


def test_money_put_aside_by_a_killed_command_is_free_for_the_next(
    own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = tmp_path / "budgets.json"
    told = {"version": 1, "budgets": [{"name": "everything", "scope": "all", "day": "0.90"}]}
    budgets.write_text(json.dumps(told))
    environment = avatar_environment(own_home) | {"AVATAR_BUDGETS": str(budgets)}
    command = [sys.executable, "-m", "avatar_pipeline.cli", "say", "ada"]
    words = "One, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve."
    killed = subprocess.Popen([*command, words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    monkeypatch.setenv("AVATAR_BUDGETS", str(budgets))
    with open_line() as line:
        while not any(one.asset == "rendered_clips" for one in line.spend.open_attempts()):
            assert killed.poll() is None, "it ended before it could be killed"
            time.sleep(0.05)
        killed.kill()
        killed.wait()
        assert line.spend.standings(Payer())[0][1].reserved > Decimal("0.4")
        done = subprocess.run([*command, "Yes."], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        standing = line.spend.standings(Payer())[0][1]
        assert standing.reserved == 0
        assert standing.settled > 0
        assert line.spend.open_attempts() == []

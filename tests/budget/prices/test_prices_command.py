"""`avatar budget prices`, and what the doctor says: what is known, what is old, what counts as the cap."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from avatar_pipeline.cli.bench import open_line
from avatar_pipeline.cli.doctor import Noted
from avatar_pipeline.cli.prices import prices, prices_finding
from avatar_pipeline.clock import utc_now
from avatar_pipeline.settings import read_settings
from avatar_pipeline.spot.catalog import CATALOG
from tests.budget.prices.aws import Aws, Change
from tests.budget.prices.seen import DAY, OD, seen

Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command with an empty home; return what it printed on both outputs."""

    def run(**options: bool) -> tuple[str, str]:
        prices(**options)
        done = capsys.readouterr()
        return done.out, done.err

    return run


def rows(out: str) -> dict[tuple[str, str, str], dict]:
    return {
        (one["instance_type"], one["capacity_type"], one["zone"] or one["region"]): one
        for one in json.loads(out)["prices"]
    }


def keep(*prices) -> None:
    with open_line() as line:
        line.money.price_store.add(prices)


def test_each_price_has_its_age_and_its_source(run: Run):
    keep(seen("0.47", as_of=utc_now()), seen("0.61", "us-east-1b", as_of=utc_now() - 40 * DAY))
    out, _ = run()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert any(line.startswith("g5.xlarge spot us-east-1a 0.47 0") and line.endswith(" s AWS") for line in lines)
    assert "g5.xlarge spot us-east-1b 0.61 40 d AWS stale" in lines
    assert len(lines) == 1 + 2 * len(CATALOG) + 1 + 1


def test_one_line_says_what_is_old_and_what_stands_in(run: Run):
    told = run()[0].splitlines()[-1]
    assert told.startswith(f"{2 * len(CATALOG)} prices; ")
    assert "older than 30 days, the oldest of 2026-07-20" in told
    assert "21 of spot unknown, for which on-demand stands in (g4dn.2xlarge us-east-1, " in told
    assert told.endswith("none unknown.")


def test_what_nobody_knows_is_named_and_counts_as_the_cap(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AVATAR_REGION", "eu-central-1")
    monkeypatch.setenv("AVATAR_PRICE_CAP", "12.5")
    out, _ = run()
    assert out.splitlines()[-1] == (
        "62 prices; none stale; 62 unknown, which count as 12.5 $/h (g4dn.xlarge eu-central-1, g4dn.2xlarge "
        "eu-central-1, g4dn.4xlarge eu-central-1, g4dn.8xlarge eu-central-1 and 27 more)."
    )
    shown = rows(run(as_json=True)[0])["g5.xlarge", "spot", "eu-central-1"]
    assert (shown["usd_per_hour"], shown["source"], shown["known"], shown["age_seconds"]) == (
        "12.5",
        "cap",
        False,
        None,
    )


def test_json_has_the_same(run: Run):
    document = json.loads(run(as_json=True)[0])
    assert (document["cap_usd_per_hour"], document["stale_after_days"], document["refreshed"]) == ("40", 30, None)
    shown = rows(json.dumps(document))["g5.xlarge", "on-demand", "us-east-1"]
    assert (shown["usd_per_hour"], shown["as_of"]) == ("1.006", "2026-07-20T00:00:00+00:00")
    assert (shown["zone"], shown["stale"], shown["exact"]) == (None, True, True)


def test_prices_can_be_looked_up_first(run: Run, aws: Aws):
    aws.on_demand = {("us-east-1", kind.name): "2.5" for kind in CATALOG}
    aws.spot = [
        Change("g5.xlarge", "us-east-1a", "0.6", utc_now() - DAY),
        Change("g5.xlarge", "us-east-1b", "0.00001", utc_now() - DAY),
    ]
    out, err = run(refresh=True)
    assert out.splitlines()[0] == "AWS told 33 prices, 32 are new."
    assert "g5.xlarge on spot in us-east-1b: 0.000010 US dollars an hour is no market's price" in err
    shown = rows(run(as_json=True)[0])
    assert shown["g5.xlarge", "on-demand", "us-east-1"]["usd_per_hour"] == "2.5"
    assert shown["g5.xlarge", "spot", "us-east-1a"]["usd_per_hour"] == "0.6"
    assert not any(one["stale"] for key, one in shown.items() if key[1] == "on-demand")


@pytest.mark.usefixtures("home")
def test_the_doctor_notes_old_prices_where_machines_are_bought(monkeypatch: pytest.MonkeyPatch):
    told = prices_finding(read_settings())
    assert isinstance(told, str), "steps run here: nobody buys a machine"
    monkeypatch.setenv("AVATAR_EXECUTOR", "k8s_spot")
    noted = prices_finding(read_settings())
    assert isinstance(noted, Noted)
    assert noted.told == told
    assert "avatar budget prices --refresh" in noted.remedy


@pytest.mark.usefixtures("home")
def test_the_doctor_is_content_where_all_prices_are_known_and_new(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AVATAR_EXECUTOR", "k8s_spot")
    now = utc_now()
    keep(
        *(seen("2.5", "us-east-1", capacity=OD, instance_type=kind.name, as_of=now) for kind in CATALOG),
        *(seen("1.5", instance_type=kind.name, as_of=now) for kind in CATALOG),
    )
    assert prices_finding(read_settings()) == f"{2 * len(CATALOG)} prices; none stale; none unknown."

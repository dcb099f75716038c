"""What happens at the source: records change, go, are bad; the API is slow, busy or refuses. Nothing is lost, nothing comes twice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from demo.grants import Fault, generate
from platform_resources.errors import PlatformError
from platform_resources.landing import http_pages
from tests.movement_insights.grants_world import GrantsWorld, grants_world

LATER = "2030-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrantsWorld]:
    """Some requests landed and derived; no dimension has landed yet, which takes nothing from the totals."""
    with grants_world(tmp_path_factory.mktemp("home"), generate(130, seed=9)) as made:
        assert made.land("grant").inserted == 130
        made.make("grants_input_metrics", "grants_spending_by_country")
        yield made


def record_of(world: GrantsWorld, **wanted: Any) -> dict[str, Any]:
    return next(one for one in world.server.records if all(one[name] == value for name, value in wanted.items()) and not one["deleted"])


def granted_to(world: GrantsWorld, country: str, year: int) -> Decimal:
    rows = world.rows("grants_spending_by_country")
    return sum((row["amount_usd"] for row in rows if (row["country_code"], row["fiscal_year_ending"]) == (country, year)), Decimal())


def test_only_what_changed_is_asked_for_what_is_deleted_goes_and_the_totals_follow(world: GrantsWorld) -> None:
    changed = record_of(world, state="closed", blocklisted=False)
    deleted = next(one for one in world.server.records[::-1] if one["state"] == "closed" and not one["blocklisted"])
    places = [(record["geo_country_iso3"], record["fiscal_year"]) for record in (changed, deleted)]
    assert places[0] != places[1]
    before = [granted_to(world, *place) for place in places]
    changed.update(amount_awarded_usd=round(changed["amount_awarded_usd"] + 1000.5, 2), updated_at="2029-01-01T00:00:00Z")
    deleted.update(deleted=True, updated_at="2029-02-01T00:00:00Z")
    asked = len(world.server.asked)
    report = world.land("grant")
    condition = json.loads(world.server.asked[asked]["filter"])["conditions"][0]
    assert condition[:2] == ["updated_at", "gt"] and report.read < 10
    assert world.make("grants_input_metrics", "grants_spending_by_country") == ["key", "key"]
    after = [granted_to(world, *place) for place in places]
    assert after == [before[0] + Decimal("1000.50"), before[1] - Decimal(str(deleted["amount_awarded_usd"]))]
    for product in ("grant", "grants_input_metrics"):
        assert deleted["base_request_id"] not in {row["request_id"] for row in world.rows(product)}
    assert len(world.rows("grant")) == 129 and world.land("grant").deliveries == 0


def test_an_older_answer_does_not_bring_back_what_was(world: GrantsWorld) -> None:
    record = record_of(world, state="granted")
    record.update(state="closed", updated_at="2029-03-01T00:00:00Z")
    world.land("grant")
    world.server.records.append({**record, "state": "granted", "updated_at": "2029-02-28T23:30:00Z"})  # a page of a stale replica
    world.server.records.append({**record_of(world, state="declined"), "updated_at": "2029-03-01T00:00:01Z"})
    world.land("grant")
    states = {row["request_id"]: row["state"] for row in world.rows("grant")}
    assert states[record["base_request_id"]] == "closed"
    del world.server.records[-2:]


def test_bad_records_are_put_aside_and_the_others_land(world: GrantsWorld) -> None:
    good, template = len(world.rows("grant")), record_of(world, state="closed")
    bad: list[tuple[dict[str, Any], str]] = [
        ({"amount_awarded_usd": -5}, "out-of-range"),
        ({"amount_awarded_usd": "a lot"}, "schema-violation"),
        ({"state": "vanished"}, "schema-violation"),
        ({"base_request_id": None}, "schema-violation"),
        ({"currency": ""}, "schema-violation"),
    ]
    for number, (fault, _) in enumerate(bad):
        world.server.records.append(
            {**template, "id": 2_000_000 + number, "base_request_id": f"R-BAD-{number}", "updated_at": LATER, **fault}
        )
    world.server.records.append({**template, "id": 2_000_009, "base_request_id": "R-GOOD-1", "updated_at": LATER})
    report = world.land("grant")
    assert report.quarantined == len(bad)
    assert len(world.rows("grant")) == good + 1
    assert sorted((row["path"], row["reason"]) for row in world.quarantined()) == sorted(
        (next(iter(fault)), reason) for fault, reason in bad
    )


def test_a_busy_api_is_asked_again_and_one_that_stays_away_is_told_without_its_secret(
    world: GrantsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(http_pages, "time", SimpleNamespace(monotonic=time.monotonic, sleep=waited.append))
    record = record_of(world, state="closed")
    record["updated_at"] = "2030-01-02T00:00:00Z"
    world.server.faults += [Fault(429, retry_after="1"), Fault(500), Fault(silence=0.0)]
    report = world.land("grant")
    assert report.deliveries == 1 and waited[0] == 1.0 and len(waited) >= 3 and not world.server.faults

    record["updated_at"] = "2030-01-03T00:00:00Z"
    monkeypatch.setattr(world.server, "token", "another")
    with pytest.raises(PlatformError) as caught:
        world.land("grant")
    assert caught.value.code == "http-login-refused" and "hunter2" not in str(caught.value)
    world.server.faults += [Fault(503)] * 40
    with pytest.raises(PlatformError) as caught:
        world.land("grant")
    assert caught.value.code == "http-unreachable" and "hunter2" not in str(caught.value)
    world.server.faults.clear()
    monkeypatch.undo()
    assert world.land("grant").deliveries == 1

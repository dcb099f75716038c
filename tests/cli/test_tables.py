"""`sdp table` on a small project: what its history shows, taking it back, and that what was taken back is read again, once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from platform_resources.cli.tables import _events_again
from platform_resources.config import load_settings
from platform_resources.contracts.registry import Registry
from platform_resources.errors import PlatformError
from platform_resources.locks import hold
from platform_resources.parts import Parts
from platform_resources.sourcing import source
from platform_resources.streams.log import EventLog
from tests.cli.conftest import Project, forget, make_project, reading, use

DAILY = "select station, cast(meta.dt as date) as day, max(temperature) as warmest, count(*) as readings from weather.reading group by all"


@pytest.fixture(scope="module")
def weather(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """20 readings ingested and aggregated, then 20 more, one of them bad, ingested and aggregated."""
    patch = pytest.MonkeyPatch()
    project = make_project(tmp_path_factory.mktemp("weather"))
    use(project, patch)
    sample = project.events("readings.ndjson", [reading(number) for number in range(20)])
    project.ok("new", "domain", "weather", "--owner", "weather-team@example.org")
    project.ok("new", "product", "weather/reading", "--from-sample", str(sample))
    project.ok("new", "product", "weather/daily", "--sql", DAILY)
    for first in (0, 20):
        file = project.events("more.ndjson", [reading(number) for number in range(first, first + 20)])
        project.ok("produce", "weather.reading.v1", str(file))
        if first:
            project.ok("produce", "weather.reading.v1", "-", "--unchecked", stdin=b"no event\n")
        project.ok("ingest", "weather/reading", "--until-idle")
        project.ok("run", "weather/daily")
    yield project
    patch.undo()
    forget()


def asked(weather: Project, sql: str, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = weather.json("query", sql, *options)
    return found


COUNT = "select count(*) as n, count(distinct meta.id) as events from weather.reading"
QUARANTINED = "select count(*) as n, count(distinct _offset) as events from weather.reading__quarantine"


def test_history_shows_what_was_committed_by_whom_and_why_it_is_kept(weather: Project) -> None:
    entries = weather.json("table", "history", "weather/reading")
    assert [entry["rows_added"] for entry in entries if entry["rows_added"]] == [20, 20]
    head = entries[0]
    assert (head["line"], head["refs"], head["rows"], head["position"]) == ("main", ["main"], 40, {"weather.reading.v1": {"0": 41}})
    assert {"newest", "branch main"} <= set(head["kept_by"]) and head["run_id"] and head["operation"] == "append"
    assert "reader weather.daily" in head["kept_by"]
    page = weather.ok("table", "history", "weather/reading", "--limit", "2")
    assert str(head["snapshot_id"]) in page and "older snapshots" in page
    assert weather.json("table", "history", "weather/reading", "--quarantine")[0]["rows"] == 1


def test_a_tag_names_a_snapshot_for_queries_readers_and_rollbacks(weather: Project) -> None:
    entries = weather.json("table", "history", "weather/reading")
    first = next(entry["snapshot_id"] for entry in entries if entry["rows"] == 20)
    told = weather.json("table", "tag", "weather/reading", "first-day", "--snapshot", str(first))
    assert told == {"product": "weather/reading", "tag": "first-day", "snapshot_id": first, "deleted": False}
    assert asked(weather, COUNT, "--branch", "first-day") == [{"n": 20, "events": 20}]
    settings = load_settings()
    assert source("weather/reading", settings=settings, registry=Registry.load(settings.project)).at("first-day").arrow().num_rows == 20
    assert "[tag-exists]" in weather.refused("table", "tag", "weather/reading", "first-day")
    assert "[tag-name]" in weather.refused("table", "tag", "weather/reading", "2026-01-01")


def test_a_rolled_back_stream_reads_again_what_went_once(weather: Project) -> None:
    before = asked(weather, COUNT), asked(weather, QUARANTINED, "--include-quarantine")
    assert before == ([{"n": 40, "events": 40}], [{"n": 1, "events": 1}])
    with hold(load_settings().locks_path, "drain:weather/reading", "run-at-work"):
        told = weather.json("table", "rollback", "weather/reading", "--to", "first-day")
    assert (told["rows"], told["events_read_again"], told["superseded_run"]) == (20, 21, "run-at-work")
    assert asked(weather, COUNT) == [{"n": 20, "events": 20}]
    assert weather.json("status", "weather/reading")[0]["lag_events"] == 21
    report = weather.json("ingest", "weather/reading", "--until-idle")
    assert (report["read"], report["inserted"], report["duplicates"], report["quarantined"]) == (21, 20, 0, 1)
    assert (asked(weather, COUNT), asked(weather, QUARANTINED, "--include-quarantine")) == before
    lines = {entry["line"] for entry in weather.json("table", "history", "weather/reading")}
    assert lines == {"main", "rolled back"}


def test_what_is_derived_notices_and_computes_anew(weather: Project) -> None:
    report = weather.json("run", "weather/daily")
    assert "was rolled back" in str(report)
    wanted = asked(weather, "select station, cast(meta.dt as date) as day, count(*) as n from weather.reading group by all order by all")
    assert asked(weather, "select station, day, readings as n from weather.daily order by all") == wanted


def test_a_derived_product_goes_back_too_and_catches_up(weather: Project) -> None:
    entries = [entry for entry in weather.json("table", "history", "weather/daily") if entry["line"] == "main" and entry["position"]]
    told = weather.ok("table", "rollback", "weather/daily", "--to", str(entries[-1]["snapshot_id"]))
    assert "computes on from the inputs" in told and f"--snapshot {entries[0]['snapshot_id']}" in told
    assert asked(weather, "select sum(readings) as n from weather.daily") == [{"n": 20}]
    weather.ok("run", "weather/daily")
    assert asked(weather, "select sum(readings) as n from weather.daily") == [{"n": 40}]


class TornLog:
    """A log whose retention has deleted the first 25 events."""

    def start_offsets(self, topic: str) -> dict[int, int]:
        return {0: 25}


def test_a_rollback_over_what_the_log_has_lost_needs_consent(weather: Project) -> None:
    first = weather.json("table", "history", "weather/reading")[-1]["snapshot_id"]
    parts = Parts(load_settings(), log=cast("EventLog", TornLog()))
    contract = parts.registry.get("weather/reading")
    with pytest.raises(PlatformError, match="no longer has 25 of the events"):
        _events_again(parts, contract, first, accept_loss=False)
    assert _events_again(parts, contract, first, accept_loss=True) == 41
    assert "[snapshot-unknown]" in weather.refused("table", "rollback", "weather/reading", "--to", "2020-01-01")
    assert "[branch-unknown]" in weather.refused("table", "rollback", "weather/reading", "--to", "no-such-tag")


def test_a_tag_goes_when_it_is_told_to(weather: Project) -> None:
    assert weather.json("table", "tag", "weather/reading", "first-day", "--delete")["deleted"] is True
    assert "[tag-unknown]" in weather.refused("table", "tag", "weather/reading", "first-day", "--delete")
    assert weather.sdp("table", "tag", "weather/reading", "x", "--delete", "--snapshot", "1").exit_code == 2


def test_a_damaged_table_hides_no_other(weather: Project) -> None:
    newest = Path(weather.json("show", "weather/reading")["metadata_location"].removeprefix("file://"))
    whole = newest.read_bytes()
    newest.write_text("damaged\n")
    told = (
        "The newest metadata file of weather.reading cannot be read: Invalid JSON: expected value at line 1 column 1. Put the file back "
        "from a backup, or go on from the one before it with `sdp table restore weather/reading`. [metadata-damaged]"
    )
    try:
        for command in ("status", "list"):
            people, programs = weather.sdp(command), weather.sdp(command, "--json")
            assert (people.exit_code, programs.exit_code) == (1, 1)
            assert people.stderr.splitlines()[-1] == programs.stderr.splitlines()[-1] == told
            shown = {product["product"]: product for product in json.loads(programs.stdout)}
            assert (shown["weather/daily"]["rows"], shown["weather/daily"]["error"]) == (5, None)
            assert (shown["weather/reading"]["rows"], shown["weather/reading"]["error"]["code"]) == (None, "metadata-damaged")
            rows = {line.split()[0]: line for line in people.stdout.splitlines() if line.startswith("weather/")}
            assert "damaged" in rows["weather/reading"] and "damaged" not in rows["weather/daily"]
        shown = weather.sdp("show", "weather/reading")
        assert shown.exit_code == 1 and told in shown.stderr and "temperature" in shown.stdout and "damaged" in shown.stdout
        assert weather.ok("status", "weather/daily") and weather.ok("show", "weather/daily")
        assert told.split(":", maxsplit=1)[0] in weather.sdp("ingest", "weather/reading").stderr
    finally:
        newest.write_bytes(whole)

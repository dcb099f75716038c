"""Publishing as Dagster runs it: the sensor's tick, ranges as one run, a failed check, the foreground command."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from platform_resources.runs import transform_tags
from tests.dagster_layer.conftest import Location
from tests.serving.wikis import Archive, some

pytestmark = pytest.mark.storm  # each run is a whole publication
QUALITY = "{name: few, metric: rowCount, mustBeLessThan: 2}"


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    root = tmp_path / "project"
    root.mkdir()
    made = Archive(root).define(quality=QUALITY, server="      - {property: fileSize, value: 1 MiB}\n")
    made.hold(some([1, 2, 3]))
    return made


@pytest.fixture
def location(archive: Archive, tmp_path: Path) -> Iterator[Location]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield Location("archive", archive.settings, instance)


def published(location: Location) -> set[str]:
    return set(location.instance.get_materialized_partitions(dg.AssetKey(["archive", "dump"])))


def span(first: str, last: str) -> dict[str, str]:
    return {
        **transform_tags("archive/dump"), "dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last,
    }  # fmt: skip


def test_the_sensor_publishes_the_newest_date_and_then_rests(archive: Archive, location: Location) -> None:
    newest = f"{datetime.now(UTC):%Y-%m}"
    [request] = location.tick("publishing").run_requests
    assert location.execute(request).success
    assert published(location) == {newest}
    assert len(archive.files()) == 1
    assert location.tick("publishing").run_requests == []
    [event] = location.events("archive/dump")
    facts = {name: value.value for name, value in event.dagster_event.step_materialization_data.materialization.metadata.items()}
    assert (facts["sdp/files"], facts["sdp/pages"], facts["sdp/revisions"], facts["sdp/rows"]) == (1, 3, 9, 1)


def test_a_range_is_one_run_and_every_date_is_told(archive: Archive, location: Location) -> None:
    assert location.execute(None, "archive/dump", tags=span("2026-02", "2026-04")).success
    assert published(location) == {"2026-02", "2026-03", "2026-04"}
    assert {name.split("/")[1] for name in archive.files()} == {"20260201", "20260301", "20260401"}


def test_a_failed_check_fails_the_run_with_its_sentence_and_shows_nothing(archive: Archive, location: Location) -> None:
    archive.hold([{**row, "revision_size": 600_000} for row in some([1, 2, 3], each=1)])
    result = location.execute(None, "archive/dump", tags=span("2026-02", "2026-02"))
    assert not result.success
    [failure] = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    assert "archive/dump was not published: few" in failure.event_specific_data.user_failure_data.description
    assert archive.files() == []
    key = dg.AssetCheckKey(dg.AssetKey(["archive", "dump"]), "few")
    [record] = location.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.evaluation is not None
    assert not record.evaluation.passed


def test_rows_that_are_none_fail_the_run_with_one_sentence(archive: Archive, location: Location) -> None:
    archive.hold([{**row, "page_title": None} for row in some([1])])
    result = location.execute(None, "archive/dump", tags=span("2026-02", "2026-02"))
    [failure] = [event for event in result.all_events if event.event_type_value == "STEP_FAILURE"]
    assert "3 rows have no page_title" in failure.event_specific_data.user_failure_data.description

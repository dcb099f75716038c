"""Orphan removal deletes what belongs to nothing, and nothing else, by no clock's mistake."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from platform_resources.errors import PlatformError
from platform_resources.lakehouse import orphans
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.compaction import compact
from platform_resources.lakehouse.expiry import expire_snapshots
from platform_resources.lakehouse.orphans import Removed, list_files, reached_files, remove_orphans
from platform_resources.lakehouse.staging import stage_append
from platform_resources.lakehouse.stamp import Stamp
from tests.lakehouse.tables import orders, read, rows, table_of
from tests.maintenance.tables import append, assert_whole

FUTURE = datetime.now(UTC) + timedelta(days=30)


@pytest.fixture
def storage_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage's clock is a month ahead too, so that a file of today is old."""
    monkeypatch.setattr(orphans, "_storage_time", lambda _table: FUTURE)


def test_every_file_is_listed_by_the_name_that_the_metadata_has_for_it(lakehouse: Lakehouse) -> None:
    definition = orders()
    append(lakehouse, definition, (1, "a", 1))
    table = table_of(lakehouse, definition)
    listed = {location: size for location, size, _ in list_files(table)}
    assert {table.metadata_location, table.metadata.snapshots[-1].manifest_list} <= listed.keys()
    assert_whole(table)
    assert len(reached_files(table)) == len(listed) and all(size > 0 for size in listed.values())


def test_what_a_killed_write_left_goes_once_it_is_old(lakehouse: Lakehouse, storage_agrees: None) -> None:
    definition = orders()
    append(lakehouse, definition, (1, "a", 1))
    staged = stage_append(lakehouse, definition, rows(definition, (2, "b", 2)), Stamp("killed"))
    assert staged.audit_metadata
    table = table_of(lakehouse, definition)
    reached = len(reached_files(table))
    assert remove_orphans(lakehouse, definition.identifier) == Removed(0, 0, len(list(list_files(table))))  # still young
    found = remove_orphans(lakehouse, definition.identifier, now=FUTURE, dry_run=True)
    assert found.files >= 4 and len(list(list_files(table))) == reached + found.files  # data, manifest, list, audit: all still there
    assert remove_orphans(lakehouse, definition.identifier, now=FUTURE) == found
    assert len(list(list_files(table))) == reached
    assert read(table_of(lakehouse, definition)) == [(1, "a", 1)]


def test_nothing_that_a_branch_a_tag_or_an_old_snapshot_reaches_goes(lakehouse: Lakehouse, storage_agrees: None) -> None:
    definition = orders()
    for number in range(6):
        append(lakehouse, definition, (number, "a", 1))
    refused = stage_append(lakehouse, definition, rows(definition, (99, "b", 2)), Stamp("refused"))
    refused.refuse("refused/run")
    table = table_of(lakehouse, definition)
    with table.manage_snapshots() as manage:
        manage.create_tag(table.metadata.snapshots[3].snapshot_id, "before")
    compact(lakehouse, definition.identifier, run_id="m", now=FUTURE)
    expire_snapshots(lakehouse, definition.identifier, keep=1)
    before = {location for location, *_ in list_files(table_of(lakehouse, definition))}
    assert remove_orphans(lakehouse, definition.identifier, now=FUTURE).files == 0
    assert {location for location, *_ in list_files(table_of(lakehouse, definition))} == before
    assert_whole(table_of(lakehouse, definition))


def test_a_clock_that_runs_ahead_deletes_nothing_that_the_storage_dates_today(lakehouse: Lakehouse) -> None:
    definition = orders()
    append(lakehouse, definition, (1, "a", 1))
    stage_append(lakehouse, definition, rows(definition, (2, "b", 2)), Stamp("at work"))
    table = table_of(lakehouse, definition)
    before = {location for location, *_ in list_files(table)}
    assert remove_orphans(lakehouse, definition.identifier, now=FUTURE).files == 0
    assert {location for location, *_ in list_files(table)} == before  # the probe of the storage's clock is gone too


def test_a_file_committed_between_the_listing_and_the_look_at_the_metadata_stays(
    lakehouse: Lakehouse, storage_agrees: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = orders()
    append(lakehouse, definition, (1, "a", 1))
    staged = stage_append(lakehouse, definition, rows(definition, (2, "b", 2)), Stamp("slow"))

    def late(_table: object) -> datetime:
        staged.commit()  # after the listing
        return FUTURE

    monkeypatch.setattr(orphans, "_storage_time", late)
    remove_orphans(lakehouse, definition.identifier, now=FUTURE)
    assert read(table_of(lakehouse, definition)) == [(1, "a", 1), (2, "b", 2)]
    assert_whole(table_of(lakehouse, definition))


def test_a_short_window_is_refused_and_an_absent_table_has_no_orphans(lakehouse: Lakehouse) -> None:
    with pytest.raises(PlatformError, match="24 hours") as refused:
        remove_orphans(lakehouse, "shop.orders", window=timedelta(hours=1))
    assert refused.value.code == "window-too-short"
    assert remove_orphans(lakehouse, "shop.absent") == Removed()


@pytest.mark.folder_only("only a folder lets a file be dated back")
def test_age_is_the_files_own(lakehouse: Lakehouse) -> None:
    definition = orders()
    append(lakehouse, definition, (1, "a", 1))
    table = table_of(lakehouse, definition)
    folder = Path(table.location().removeprefix("file://")) / "data"
    for name, days in (("old", 4), ("young", 2)):
        (folder / f"{name}.parquet").write_text("x")
        os.utime(folder / f"{name}.parquet", (time.time() - days * 86_400,) * 2)
    assert remove_orphans(lakehouse, definition.identifier).files == 1
    assert (folder / "young.parquet").exists() and not (folder / "old.parquet").exists()

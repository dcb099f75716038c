"""content/missing_revision tells what dump, events and history do not tell alike, and nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import duckdb
import pytest

from demo.contents import DUMPED
from platform_resources.config import SOURCE_ROOT
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.engines.duck import create_empty_tables

QUERY = (SOURCE_ROOT / "data_products/content/missing_revision.sql").read_text()
Missing = list[tuple[Any, ...]]


class Told:
    """Empty inputs, to be filled with single facts; ages are in days before the newest dump."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        registry = Registry.load(SOURCE_ROOT)
        keys = ("content/pages_dump", "mediawiki/page_content_change", "content/history")
        create_empty_tables(con, {registry.get(key).identifier: table_definition(registry.get(key)).schema for key in keys})
        self.con = con

    def dump(self, page: int, revision: int, *, saved: float, wiki: str = "awiki", age: int = 0) -> None:
        self.con.execute(
            "insert into content.pages_dump by name select ? as wiki_id, ? as page_id, ? as revision_id, ? as revision_dt, ? as _slice",
            [wiki, page, revision, ago(saved), ago(age).date()],
        )

    def event(self, page: int, revision: int, *, age: float, kind: str = "edit", wiki: str = "awiki", domain: str = "a") -> None:
        self.con.execute(
            "insert into mediawiki.page_content_change by name select ? as wiki_id, ? as dt, ? as page_change_kind, "
            "{page_id: ?::bigint} as page, {rev_id: ?::bigint} as revision, {domain: ?} as meta",
            [wiki, ago(age), kind, page, revision, domain],
        )

    def row(self, page: int, revision: int, parent: int | None, *, age: float, wiki: str = "awiki") -> None:
        self.con.execute(
            "insert into content.history by name select ? as wiki_id, ? as page_id, ? as revision_id, ? as revision_parent_id, "
            "? as row_content_update_dt",
            [wiki, page, revision, parent, ago(age)],
        )

    def missing(self) -> Missing:
        return self.con.execute(f"select page_id, revision_id, reason, known_dt from ({QUERY}) order by all").fetchall()


def ago(days: float) -> datetime:
    return DUMPED - timedelta(days=days)


@pytest.fixture
def told() -> Any:
    with duckdb.connect() as con:
        con.execute("set TimeZone = 'UTC'")
        yield Told(con)


def test_a_revision_of_the_dump_that_no_event_told_of(told: Told) -> None:
    told.event(1, 11, age=9)
    told.dump(1, 10, saved=20)  # from before there were events
    told.dump(1, 11, saved=9)
    told.dump(1, 12, saved=5)
    told.dump(1, 13, saved=5, wiki="bwiki")  # of which there are no events at all
    told.event(1, 12, age=4, wiki="bwiki")
    assert told.missing() == [(1, 12, "no_event", DUMPED), (1, 12, "not_in_dump", DUMPED)]


def test_a_revision_told_of_that_the_newest_dump_does_not_have(told: Told) -> None:
    told.dump(1, 10, saved=90)
    told.dump(2, 20, saved=90, age=31)  # an older dump
    told.event(1, 11, age=3)
    told.event(2, 20, age=8)
    told.event(3, 30, age=8)
    told.event(3, 30, age=2, kind="delete")  # told to be deleted, so rightly not there
    told.event(4, 40, age=8)
    told.event(4, 40, age=6, kind="delete")
    told.event(4, 40, age=5, kind="undelete")
    told.event(5, 50, age=-1)  # after the dump
    told.event(7, 70, age=8)
    told.event(7, 70, age=-2, kind="delete")  # while the dump was made, which takes days
    told.event(6, 60, age=8, domain="canary")
    assert told.missing() == [(page, revision, "not_in_dump", DUMPED) for page, revision in ((1, 11), (2, 20), (4, 40))]


def test_a_parent_that_is_not_there(told: Told) -> None:
    told.row(1, 10, None, age=9)
    told.row(1, 11, 10, age=8)
    told.row(1, 13, 12, age=6)
    told.row(1, 14, 12, age=7)
    told.row(2, 20, 11, age=5)  # of a page that was split from the other
    told.row(1, 15, 10, age=8, wiki="bwiki")
    assert told.missing() == [(1, 10, "no_row", ago(8)), (1, 12, "no_row", ago(7))]

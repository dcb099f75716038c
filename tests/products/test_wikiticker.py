"""39,244 real edits through gate, drain and products: every fact the raw file has equals a query over the raw file itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from tests.products.conftest import World
from tests.products.wikiticker import FILE, STREAM, page_changes

EDITS = 39_244
RAW = """
    create table raw as
    select *, replace(replace(channel, '#', ''), '.wikipedia', 'wiki') as wiki, row_number() over () as line
    from read_json('{file}', format = 'newline_delimited', columns = {{
        time: 'TIMESTAMPTZ', channel: 'VARCHAR', page: 'VARCHAR', user: 'VARCHAR', comment: 'VARCHAR', delta: 'BIGINT', added: 'BIGINT',
        deleted: 'BIGINT', isAnonymous: 'BOOLEAN', isMinor: 'BOOLEAN', isNew: 'BOOLEAN', isRobot: 'BOOLEAN'
    }})
"""


@pytest.fixture(scope="module")
def ingested(world: World, realdata: Path) -> World:
    """All edits ingested and aggregated in two halves, so that the second is worked incrementally."""
    lines = list(page_changes(realdata))
    assert len(lines) == EDITS
    for half in (lines[: EDITS // 2], lines[EDITS // 2 :]):
        report = world.produce(STREAM, half)
        assert (report.accepted, report.refusals) == (len(half), [])
        drain = world.ingest("mediawiki/page_change")
        assert (drain.inserted, drain.duplicates, drain.quarantined) == (len(half), 0, 0)
        for product in ("activity/edit_statistics", "activity/top_pages", "trust_safety/reverts"):
            world.derive(product)
    return world


@pytest.fixture(scope="module")
def raw(ingested: World, realdata: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The raw file beside the products, in a session that shares nothing with the platform's."""
    with duckdb.connect() as con:
        con.execute("set timezone = 'UTC'")
        con.execute(RAW.format(file=realdata / FILE))
        for key in ("mediawiki/page_change", "activity/edit_statistics", "activity/top_pages", "trust_safety/reverts"):
            con.register(f"arrow_{key.partition('/')[2]}", ingested.table(key))
            con.execute(f"create table {key.partition('/')[2]} as select * from arrow_{key.partition('/')[2]}")
        yield con


def differences(con: duckdb.DuckDBPyConnection, found: str, expected: str) -> list[tuple[object, ...]]:
    """Rows of one query that the other does not have, both ways, rows counted."""
    con.execute(f"create or replace temp table found as {found}")
    con.execute(f"create or replace temp table expected as {expected}")
    both = "(from found except all from expected) union all (from expected except all from found)"
    return con.execute(f"select * from ({both}) limit 5").fetchall()


def test_every_edit_is_stored_with_all_it_says(raw: duckdb.DuckDBPyConnection) -> None:
    assert raw.execute("select count(*) from page_change").fetchone() == (EDITS,)
    found = """
        select revision.rev_id, wiki_id, dt, page.page_title, performer.user_text, performer.user_id is null, performer.is_bot,
            revision.is_minor_edit, page_change_kind = 'create', comment from page_change
    """
    expected = 'select line, wiki, time, page, "user", isAnonymous, isRobot, isMinor, isNew, comment from raw'
    assert differences(raw, found, expected) == []


def test_ids_are_as_distinct_as_what_they_stand_for(raw: duckdb.DuckDBPyConnection) -> None:
    pages = "select wiki_id, count(distinct page.page_id) from page_change group by all"
    assert differences(raw, pages, "select wiki, count(distinct page) from raw group by all") == []
    users = "select wiki_id, count(distinct performer.user_id) from page_change where performer.user_id is not null group by all"
    assert differences(raw, users, 'select wiki, count(distinct "user") from raw where not isAnonymous group by all') == []


def test_edit_statistics_equal_a_query_over_the_raw_file(raw: duckdb.DuckDBPyConnection) -> None:
    found = """
        select wiki_id, page_title, day, edits, anonymous, bot, minor, editors, bytes_added, bytes_removed, reverted, unattributed, unsized
        from edit_statistics
    """
    expected = """
        select wiki, page, date '2015-09-12', count(*), countif(isAnonymous), countif(isRobot), countif(isMinor), count(distinct "user"),
            sum(added)::bigint, sum(deleted)::bigint, 0, 0, 0
        from raw group by wiki, page
    """
    assert differences(raw, found, expected) == []
    assert raw.execute("select count(*), sum(edits) from edit_statistics").fetchone() == (35_278, EDITS)


def test_top_pages_equal_a_query_over_the_raw_file(raw: duckdb.DuckDBPyConnection) -> None:
    """Ties are broken by page_id, which the raw file does not have, so the ranks' edits and editors are compared."""
    found = "select wiki_id, day, rank, edits, editors from top_pages"
    expected = """
        select wiki, date '2015-09-12', row_number() over (partition by wiki order by count(*) desc, count(distinct "user") desc) as place,
            count(*), count(distinct "user")
        from raw group by wiki, page qualify place <= 100
    """
    assert differences(raw, found, expected) == []
    titles = "select wiki_id, page_title, edits, bytes_changed from top_pages"
    facts = "select wiki, page, count(*), sum(added + deleted)::bigint from raw group by wiki, page"
    assert raw.execute(f"select count(*) from (({titles}) except ({facts}))").fetchone() == (0,)


def test_without_content_hashes_nothing_is_called_a_revert(raw: duckdb.DuckDBPyConnection) -> None:
    assert raw.execute("select count(*) from reverts").fetchone() == (0,)


def test_incremental_equals_recomputed(ingested: World) -> None:
    for product in ("activity/edit_statistics", "activity/top_pages"):
        before = sorted(map(repr, ingested.table(product).to_pylist()))
        assert ingested.derive(product, recompute=True) == "full"
        assert sorted(map(repr, ingested.table(product).to_pylist())) == before

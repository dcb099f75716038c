"""Grants beside edits and views: whom they count, for which years, and that few people are nobody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import duckdb
import pytest

from platform_resources.config import SOURCE_ROOT
from platform_resources.contracts.iceberg import table_definition
from platform_resources.engines.current import current_sql
from platform_resources.engines.duck import create_empty_tables
from tests.movement_insights.grants_world import REGISTRY

INPUTS = (
    "movement_insights/grant",
    "movement_insights/grants_input_metrics",
    "movement_insights/grant_participation",
    "movement_insights/country",
    "movement_insights/wiki",
    "traffic/pageview_by_country",
    "traffic/pageview_per_article",
    "activity/edit_statistics",
    "mediawiki/page_change",
)


class Tables:
    """Inputs that a test fills row by row, and the queries of the products over them."""

    def __init__(self) -> None:
        self.con = duckdb.connect()
        self.con.execute("set TimeZone = 'UTC'")
        contracts = [REGISTRY.get(key) for key in INPUTS]
        create_empty_tables(self.con, {contract.identifier: table_definition(contract).schema for contract in contracts})
        for name in ("country", "wiki"):
            contract = REGISTRY.get(f"movement_insights/{name}")
            condition = current_sql(contract, contract.identifier)
            self.con.execute(f"create view movement_insights.{name}__current as from {contract.identifier} where {condition}")

    def add(self, table: str, **row: Any) -> None:
        columns = ", ".join(f'? as "{name}"' for name in row)
        domain, _, name = table.partition(".")
        self.con.execute(f'insert into {domain}."{name}" by name select {columns}', list(row.values()))

    def country(self, code: str, short: str, *, is_protected: bool = False, release: int = 1) -> None:
        day = date(2026, 1, release)
        self.add(
            "movement_insights.country", name=code.title(), iso_code=short, iso_alpha3_code=code, is_protected=is_protected, _slice=day
        )

    def grant(self, country: str | None, year: int, usd: int, grantee: str, **more: Any) -> None:
        row = {"blocklisted": False, "wikis": [], **more}
        self.add(
            "movement_insights.grants_input_metrics", country_code=country, calendar_year=year, usd_over_grant_life=usd,
            unique_grantee_id=grantee, **row,
        )  # fmt: skip

    def result(self, product: str) -> list[Mapping[str, Any]]:
        query = (SOURCE_ROOT / "data_products" / "movement_insights" / f"{product}.sql").read_text()
        return self.con.execute(query).to_arrow_table().to_pylist()


@pytest.fixture
def tables() -> Iterator[Tables]:
    made = Tables()
    yield made
    made.con.close()


def test_a_country_stands_with_its_grants_the_edits_of_many_and_its_views(tables: Tables) -> None:
    tables.country("KENYA", "XX")  # an older release, under another code
    tables.country("KEN", "KE", release=2)
    tables.grant("KEN", 2025, 500, "G1")
    tables.grant("KEN", 2025, 700, "G2")
    for number in range(12):
        tables.add("movement_insights.grant_participation", country_code="KEN", day=date(2026, 1, 2), user_name=f"U{number}", edits=3)
    for day in (date(2025, 3, 1), date(2025, 3, 2), date(2026, 3, 1)):
        tables.add("traffic.pageview_by_country", country_code="KE", day=day, views_ceil=1_200)
    rows = {row["year"]: row for row in tables.result("grantee_impact")}
    assert (rows[2025]["grants"], rows[2025]["grantees_ceil"], rows[2025]["amount_usd"]) == (2, 10, 1_200)
    assert (rows[2025]["views_ceil"], rows[2025]["participant_edits"]) == (2_400, None)
    assert (rows[2026]["grants"], rows[2026]["participants_ceil"], rows[2026]["participant_edits"]) == (0, 20, 36)
    assert rows[2026]["views_ceil"] == 1_200 and rows.keys() == {2025, 2026}


def test_who_takes_part_in_two_grants_at_once_edited_once(tables: Tables) -> None:
    tables.country("KEN", "KE")
    for number in range(10):
        for request, wiki in (("R-1", "swwiki"), ("R-2", "swwiki"), ("R-2", "enwiki")):
            person = {"country_code": "KEN", "day": date(2025, 1, 2), "user_name": f"U{number}"}
            tables.add("movement_insights.grant_participation", request_id=request, wiki_id=wiki, edits=3, **person)
    (row,) = tables.result("grantee_impact")
    assert (row["participants_ceil"], row["participant_edits"]) == (10, 60)


def test_nine_participants_are_nobody_not_even_a_row_and_ten_are_told(tables: Tables) -> None:
    tables.country("KEN", "KE")
    for year, people in ((2024, 9), (2025, 10)):
        for number in range(people):
            tables.add("movement_insights.grant_participation", country_code="KEN", day=date(year, 1, 2), user_name=f"U{number}", edits=1)
    told = {row["year"]: (row["participants_ceil"], row["participant_edits"]) for row in tables.result("grantee_impact")}
    assert told == {2025: (10, 10)}


def test_protected_countries_and_hidden_places_are_left_out(tables: Tables) -> None:
    tables.country("CHN", "CN", is_protected=True)
    tables.country("KEN", "KE")
    tables.grant("CHN", 2025, 500, "G1")
    tables.grant("KEN", 2025, 500, "G2", blocklisted=True, wikis=["swwiki"])
    tables.grant(None, 2025, 500, "G3")
    assert tables.result("grantee_impact") == [] and tables.result("grantee_impact_by_wiki") == []


def test_a_wiki_stands_with_its_grants_edits_and_views(tables: Tables) -> None:
    wiki = {"visibility": "public", "database_group": "wikipedia", "language_name": "Swahili", "_slice": date(2026, 1, 1)}
    tables.add("movement_insights.wiki", database_code="swwiki", domain_name="sw.wikipedia.org", english_name="Swahili Wikipedia", **wiki)
    tables.add("movement_insights.wiki", database_code="wikidatawiki", domain_name="www.wikidata.org", english_name="Wikidata", **wiki)
    tables.grant("KEN", 2025, 500, "G1", request_id="R-1", wikis=["swwiki", "wikidatawiki", "swwiki"])  # one wiki typed twice
    tables.grant("KEN", 2025, 300, "G2", request_id="R-2", wikis=["swwiki"])
    tables.grant("KEN", 2025, 300, "G2", request_id="R-3", wikis=["swwiki"])
    for day, edits, bot in ((date(2025, 1, 1), 10, 4), (date(2025, 12, 31), 5, 0), (date(2024, 12, 31), 99, 0)):
        tables.add("activity.edit_statistics", wiki_id="swwiki", day=day, edits=edits, bot=bot)
    for project, agent, views in (("sw.wikipedia", "user", 70), ("sw.wikipedia", "spider", 900), ("wikidata", "user", 8)):
        tables.add("traffic.pageview_per_article", project=project, agent=agent, day=date(2025, 5, 5), views=views)
    rows = {row["database_code"]: row for row in tables.result("grantee_impact_by_wiki")}
    found = {code: (row["grants"], row["amount_usd"], row["edits"], row["views"], row["wiki"]) for code, row in rows.items()}
    assert found == {"swwiki": (3, 1_100, 11, 70, "Swahili Wikipedia"), "wikidatawiki": (1, 500, None, 8, "Wikidata")}


def test_participants_count_while_their_grant_lasts_and_as_long_as_they_take_part(tables: Tables) -> None:
    whole = {"state": "granted", "blocklisted": False, "starts_on": date(2026, 1, 1), "ends_on": date(2026, 1, 31), "country_code": "KEN"}
    tables.add("movement_insights.grant", request_id="R-1", participants=["Ann", "Bao"], **whole)
    tables.add("movement_insights.grant", request_id="R-2", participants=["Ann"], **{**whole, "state": "declined"})
    tables.add("movement_insights.grant", request_id="R-3", participants=["Ann"], **{**whole, "blocklisted": True})
    moments = [
        ("Ann", "2026-01-31 23:59:59Z", 1, "edit"),
        ("Ann", "2026-02-01 00:00:00Z", 2, "edit"),
        ("Bao", "2026-01-05 10:00:00Z", 3, "create"),
    ]
    moments += [
        ("Bao", "2026-01-05 10:00:00Z", 3, "create"),
        ("Bao", "2026-01-05 11:00:00Z", 4, "move"),
        ("Eve", "2026-01-05 11:00:00Z", 5, "edit"),
    ]
    for user, at, revision, kind in moments:
        tables.con.execute(
            "insert into mediawiki.page_change by name select ?::timestamptz as dt, 'swwiki' as wiki_id, ? as page_change_kind, "
            "(select {'rev_id': ?}) as revision, {'user_text': ?} as performer",
            [at, kind, revision, user],
        )
    found = {(row["request_id"], str(row["day"]), row["user_name"]): row["edits"] for row in tables.result("grant_participation")}
    assert found == {("R-1", "2026-01-31", "Ann"): 1, ("R-1", "2026-01-05", "Bao"): 1}

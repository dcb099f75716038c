"""Grants through the real server, landing and every product: the totals are those that were published in 2013, to the cent."""

from __future__ import annotations

import csv
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from demo.grants import economies, generate, read_totals
from platform_resources.errors import PlatformError
from platform_resources.sourcing import source
from tests.movement_insights.grants_world import DIMENSIONS, GRANTS, TOTALS, GrantsWorld, grants_world

YEAR = 2013
RESTRICTED = ("grant", "grants_input_metrics", "grant_participation", "grants_reconciliation")
ALL = (*RESTRICTED, *TOTALS, "grants_leadership_metrics", "grantee_impact", "grantee_impact_by_wiki")


@pytest.fixture(scope="module")
def made(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrantsWorld]:
    """The grants of 2012-13 and some of all other years, with the real dimensions, landed and derived."""
    records = generate(140, seed=5, totals=read_totals(realdata / "grants"))
    with grants_world(tmp_path_factory.mktemp("home"), records, canonical=realdata / "canonical_data") as world:
        report = world.land("grant")
        assert (report.inserted, report.quarantined) == (len(records), 0)
        time.sleep(1.05)  # a dropped file is taken when it has not changed for a second
        for dimension in DIMENSIONS:
            report = world.land(dimension)
            assert (report.refused, report.quarantined) == ([], 0)
        assert [len(world.rows(name)) for name in ("country", "wiki")] == [250, 1031]  # the real ones, whole
        world.make(*GRANTS)
        yield world


def published(folder: Path, name: str) -> dict[tuple[date, str], Decimal]:
    """A published table by date and column."""
    with (folder / "grants" / f"grants_{name}.csv").open(encoding="utf-8", newline="") as file:
        return {
            (datetime.strptime(row["date"], "%Y/%m/%d").replace(tzinfo=UTC).date(), column): Decimal(value)
            for row in csv.DictReader(file)
            for column, value in row.items()
            if column != "date" and value
        }


def test_each_country_was_granted_what_was_published(made: GrantsWorld, realdata: Path) -> None:
    with (realdata / "grants" / "grants_spending_by_country.csv").open(encoding="utf-8", newline="") as file:
        expected = [(row["ISO-3166 Alpha-3"], row["Location"], Decimal(row["Amount Funded"])) for row in csv.DictReader(file)]
    found = [row for row in made.rows("grants_spending_by_country") if row["fiscal_year_ending"] == YEAR]
    assert sorted((row["country_code"], row["location"], row["amount_usd"]) for row in found) == sorted(expected)


@pytest.mark.parametrize(
    ("product", "column", "name"), [("program", "program", "program"), ("global_south", "global_south", "global_south")]
)
def test_each_programme_and_side_was_granted_what_was_published(
    made: GrantsWorld, realdata: Path, product: str, column: str, name: str
) -> None:
    spending, counts = published(realdata, f"spending_by_{name}"), published(realdata, f"count_by_{name}")
    halves = {half for half, _ in spending}
    found = [row for row in made.rows(f"grants_spending_by_{product}") if row["half_ending"] in halves]
    assert {(row["half_ending"], row[column]): row["amount_usd"] for row in found} == spending
    assert {(row["half_ending"], row[column]): Decimal(row["grants"]) for row in found} == counts


def test_what_is_missing_from_the_totals_is_told_to_the_domain_alone(made: GrantsWorld) -> None:
    made.make("grants_reconciliation")
    assert made.warnings["grants_reconciliation"] == set()
    withheld: Counter[int] = Counter()
    for record in made.server.records:
        if record["blocklisted"] and record["grant_approved_at"]:
            withheld[record["fiscal_year"]] += round(record["amount_awarded_usd"] * 100)
    found = {row["fiscal_year_ending"]: row for row in made.rows("grants_reconciliation")}
    assert sum(withheld.values()) and withheld == Counter({year: int(row["withheld_usd"] * 100) for year, row in found.items()})
    assert found[YEAR]["without_country_usd"] == Decimal("145884.00")  # scholarships to Wikimania, which are in no country
    assert found[YEAR]["awarded_usd"] == Decimal("9879618.92")


def test_sides_that_were_typed_otherwise_are_told(made: GrantsWorld) -> None:
    assert made.warnings["grants_input_metrics"] == {"sides_are_called_alike"}  # the published files have one north


def test_a_grants_metrics_are_what_the_columns_say(made: GrantsWorld) -> None:
    rates = {(row["country_code"], row["year"]): row for row in economies()}
    found = [row for row in made.rows("grants_input_metrics") if row["fiscal_year_ending"] == YEAR and row["country_code"]]
    assert len(found) == 81
    for row in found:
        economy, usd = rates[row["country_code"], row["calendar_year"]], float(row["usd_over_grant_life"])
        worth = usd * economy["dec_adjusted_exchange_rate"] / economy["ppp_conversion_rate"] / (1 + economy["inflation_rate"] / 100)
        expected = {
            "dollar_weighted_constant": usd / economy["gdp_per_capita_constant"],
            "dollar_weighted_current": usd / economy["gdp_per_capita_current"],
            "grant_value": worth,
            "gdp_constant_pop_weighted": usd / economy["gdp_per_capita_constant"] / economy["population"],
            "converted_usd_per_1000_pop": worth / economy["population"],
        }
        assert {name: float(row[name]) for name in expected} == pytest.approx(expected, rel=1e-6, abs=1e-9)
        assert row["is_country_known"] and row["grant_making_region"]
        assert (row["awarded_on"].year, row["calendar_year"]) == (row["calendar_year"], row["awarded_on"].year)
        assert row["fiscal_year_ending"] == row["calendar_year"] + (row["awarded_on"].month >= 7)


def test_people_are_for_the_domain_alone_and_totals_for_all(made: GrantsWorld) -> None:
    public = {name for name in ALL if made.registry.get(f"movement_insights/{name}").readers is None}
    assert public == {*TOTALS, "grants_leadership_metrics", "grantee_impact", "grantee_impact_by_wiki"}
    for name in ALL:
        contract = made.registry.get(f"movement_insights/{name}")
        assert contract.classification == ("public" if name in public else "restricted")
        assert name not in public or not any(column.is_pii for _, column in contract.walk())
    for reader, code in ((None, "reader-untold"), ("traffic", "reader-refused")):
        with pytest.raises(PlatformError) as caught:
            source("movement_insights/grant", registry=made.registry, lakehouse=made.lakehouse, reader=reader).polars()
        assert caught.value.code == code
    assert made.query("select count(*) as n from movement_insights.grants_spending_by_country")


def test_nothing_of_a_grant_whose_place_is_hidden_is_public(made: GrantsWorld) -> None:
    hidden = {row["request_id"] for row in made.rows("grants_input_metrics") if row["blocklisted"]}
    assert hidden
    kept = [row for row in made.rows("grants_input_metrics") if not row["blocklisted"]]
    with_country, with_side = ([row for row in kept if row[name]] for name in ("country_code", "global_south"))
    for product, expected in zip(TOTALS, (with_country, kept, with_side), strict=True):
        found = made.rows(product)
        assert sum(row["grants"] for row in found) == len(expected)
        assert sum(row["amount_usd"] for row in found) == sum(row["usd_over_grant_life"] for row in expected)
    newest = max(row["year"] for row in made.rows("grants_leadership_metrics"))
    leading = [row for row in made.rows("grants_leadership_metrics") if row["year"] == newest]
    assert sum(row["count_historical_grants_to_date"] for row in leading) == len(with_country)

"""Grants through the real server, landing and every product: the totals are those that were published in 2013, to the cent."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from demo.grants import generate, read_totals
from tests.movement_insights.grants_world import DIMENSIONS, GRANTS, GrantsWorld, grants_world

YEAR = 2013


@pytest.fixture(scope="module")
def made(realdata: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrantsWorld]:
    """The grants of 2012-13 and some of all other years, with the real dimensions, landed and derived."""
    records = generate(140, seed=5, totals=read_totals(realdata / "grants"))
    with grants_world(tmp_path_factory.mktemp("home"), records, canonical=realdata / "canonical_data") as world:
        report = world.land("grant")
        assert (report.inserted, report.quarantined) == (len(records), 0)
        time.sleep(0.5)
        for dimension in DIMENSIONS:
            assert world.land(dimension).refused == []
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

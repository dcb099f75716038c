"""Leadership metrics against a plain-Python reference of what their columns are documented to mean, and against the original's defects.

The original (analytics-refinery, hql/gdi/equity_landscape/grants_leadership_input_metrics.hql) counts years for grants, swaps the names of
its two averages, fills columns by place, and has the descriptions of two columns the wrong way round.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

import duckdb
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from platform_resources.config import SOURCE_ROOT
from platform_resources.contracts.iceberg import table_definition
from platform_resources.engines.duck import create_empty_tables
from platform_resources.engines.loading import read_transform
from platform_resources.engines.running import run_transform
from tests.movement_insights.grants_world import REGISTRY

KEY, INPUT = "movement_insights/grants_leadership_metrics", "movement_insights/grants_input_metrics"
FOLDER = SOURCE_ROOT / "data_products" / "movement_insights"
AFFILIATES = ("Chapter", "User Group", "Thematic Organization")


@dataclass(frozen=True)
class Grant:
    country: str | None
    year: int
    cents: int
    org_type: str = "Individual"
    per_head_current: int | None = 50_000
    per_head_constant: int | None = 40_000
    blocklisted: bool = False


def reference(grants: Iterable[Grant]) -> dict[tuple[str, int], dict[str, float]]:
    """What the columns are documented to mean, grant by grant."""
    told = [grant for grant in grants if grant.country and not grant.blocklisted and grant.year >= 2010]
    found: dict[tuple[str, int], dict[str, float]] = {}
    newest = max((grant.year for grant in told), default=0)
    for country in {grant.country for grant in told}:
        own = [grant for grant in told if grant.country == country]
        for year in range(min(grant.year for grant in own), newest + 1):
            row: dict[str, float] = {}
            for among, name in ((own, ""), ([one for one in own if one.org_type in AFFILIATES], "affiliate_")):
                past, now = [one for one in among if one.year <= year], [one for one in among if one.year == year]
                to_date = "" if name else "_to_date"
                row[f"sum_historical_{name}grants{to_date}"] = sum(one.cents for one in past) / 100
                row[f"sum_calendar_year_{name}grants"] = sum(one.cents for one in now) / 100
                row[f"count_historical_{name}grants{to_date}"] = len(past)
                row[f"count_calendar_year_{name}grants"] = len(now)
                row[f"annual_{name}grants_weighted"] = sum(one.cents / 100 / one.per_head_current for one in now if one.per_head_current)
                row[f"historical_{name}grants_weighted"] = sum(
                    one.cents / 100 / one.per_head_constant for one in past if one.per_head_constant
                )
            last = sum(one.cents for one in own if year - 4 <= one.year <= year) / 500
            previous = sum(one.cents for one in own if year - 9 <= one.year <= year - 5) / 500
            rate = 1 + (last / previous - 1) / 5 if previous else 1
            row |= {"average_grants_last_5_years": last, "average_grants_previous_5_years": previous, "annual_grants_change_rate": rate}
            row["annual_grants_by_annual_change_rate"] = row["annual_grants_weighted"] * rate
            row["historical_grants_by_annual_change_rate"] = row["historical_grants_weighted"] * rate
            found[country or "", year] = row
    return found


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    contract = REGISTRY.get(INPUT)
    with duckdb.connect() as con:
        create_empty_tables(con, {contract.identifier: table_definition(contract).schema})
        yield con


def fill(con: duckdb.DuckDBPyConnection, grants: Iterable[Grant]) -> None:
    """Make these the only grants."""
    con.execute("delete from movement_insights.grants_input_metrics")
    for grant in grants:
        usd = Decimal(grant.cents) / 100
        weighted = [None if not head else round(usd / head, 10) for head in (grant.per_head_current, grant.per_head_constant)]
        con.execute(
            "insert into movement_insights.grants_input_metrics by name select ? as country_code, ? as calendar_year, ? as "
            "usd_over_grant_life, ? as org_type, ? as dollar_weighted_current, ? as dollar_weighted_constant, ? as blocklisted",
            [grant.country, grant.year, usd, grant.org_type, *weighted, grant.blocklisted],
        )


def computed(con: duckdb.DuckDBPyConnection, grants: Iterable[Grant]) -> dict[tuple[str, int], dict[str, float]]:
    """The rows that the product's query gives of these grants."""
    fill(con, grants)
    rows = con.execute((FOLDER / "grants_leadership_metrics.sql").read_text()).to_arrow_table().to_pylist()
    return {(row.pop("country_code"), row.pop("year")): {name: float(value) for name, value in row.items()} for row in rows}


GRANTS = st.builds(
    Grant,
    country=st.sampled_from(["ARG", "DEU", "KEN", None]),
    year=st.integers(2008, 2024),
    cents=st.integers(0, 10**9),
    org_type=st.sampled_from(["Individual", "Other Organization", *AFFILIATES]),
    per_head_current=st.sampled_from([None, 4_400, 52_000]),
    per_head_constant=st.sampled_from([None, 4_100, 48_000]),
    blocklisted=st.sampled_from([False, False, False, True]),
)


def check(con: duckdb.DuckDBPyConnection, grants: list[Grant]) -> None:
    """See that the query and the reference say the same of these grants."""
    found, expected = computed(con, grants), reference(grants)
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert found[key] == pytest.approx(row, rel=1e-6, abs=1e-6), key


def test_each_metric_is_what_its_column_says(con: duckdb.DuckDBPyConnection) -> None:
    chance = random.Random(2010)
    kinds, heads = ("Individual", "Other Organization", *AFFILIATES), (None, 4_400, 52_000)
    for size in (0, 90):
        check(
            con,
            [
                Grant(
                    country=chance.choice(("ARG", "DEU", "KEN", None)),
                    year=chance.randint(2008, 2024),
                    cents=chance.randrange(10**9),
                    org_type=chance.choice(kinds),
                    per_head_current=chance.choice(heads),
                    per_head_constant=chance.choice(heads),
                    blocklisted=chance.random() < 0.2,
                )
                for _ in range(size)
            ],
        )


@pytest.mark.storm
@hypothesis_settings(max_examples=300, deadline=None)
@given(grants=st.lists(GRANTS, max_size=12))
def test_each_metric_is_what_its_column_says_whatever_the_grants(con: duckdb.DuckDBPyConnection, grants: list[Grant]) -> None:
    check(con, grants)


def test_grants_are_counted_not_the_years_that_had_one(con: duckdb.DuckDBPyConnection) -> None:
    grants = [Grant("KEN", 2015, 100, "Chapter"), Grant("KEN", 2015, 100, "Chapter"), Grant("KEN", 2016, 100)]
    row = computed(con, grants)["KEN", 2016]
    assert row["count_historical_grants_to_date"] == 3  # the original: 2, the years
    assert row["count_historical_affiliate_grants"] == 2  # the original: 1


def test_the_averages_of_five_years_bear_their_own_names(con: duckdb.DuckDBPyConnection) -> None:
    row = computed(con, [Grant("KEN", 2012, 50_000), Grant("KEN", 2017, 150_000)])["KEN", 2017]
    assert (row["average_grants_last_5_years"], row["average_grants_previous_5_years"]) == (300.0, 100.0)  # the original: swapped
    assert row["annual_grants_change_rate"] == pytest.approx(1 + (3 - 1) / 5)


def test_columns_are_filled_by_name_whatever_their_place(con: duckdb.DuckDBPyConnection) -> None:
    """The same query with its columns in the reverse order fills the same columns: the original's INSERT would not."""
    contract = REGISTRY.get(KEY)
    transform, schema = read_transform(contract, REGISTRY), table_definition(contract).schema
    assert transform is not None
    fill(con, [Grant("KEN", 2012, 50_000, "Chapter"), Grant("KEN", 2017, 150_000), Grant("ARG", 2016, 7_000, per_head_constant=None)])
    names = [column.name for column in contract.columns]
    turned = replace(transform, text=f"select {', '.join(reversed(names))} from ({transform.text})")
    rows = [
        run_transform(con, one, {}, schema).read_all().sort_by([(name, "ascending") for name in names[:2]]) for one in (transform, turned)
    ]
    assert rows[0] == rows[1] and rows[0].num_rows == 8 and rows[1].column_names == names


def test_annual_is_of_the_year_in_current_dollars_and_historical_of_all_years_in_constant_ones(con: duckdb.DuckDBPyConnection) -> None:
    grants = [Grant("KEN", year, 100_000, per_head_current=5_000, per_head_constant=4_000) for year in (2014, 2015)]
    row = computed(con, grants)["KEN", 2015]
    assert row["annual_grants_weighted"] == pytest.approx(1_000 / 5_000)
    assert row["historical_grants_weighted"] == pytest.approx(2 * 1_000 / 4_000)
    texts = {column.name: column.description or "" for column in REGISTRY.get(KEY).columns}
    for name in ("annual_grants_weighted", "historical_grants_weighted"):  # the original describes each as the other
        annual = name.startswith("annual")
        assert re.search("year's grants.*current", texts[name]) if annual else re.search("All grants.*constant", texts[name])
        assert not re.search("constant" if annual else "current", texts[name])

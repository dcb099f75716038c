"""Generated requests through gate, drain and every product of the domain: each count equals the generator's own books."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bench.pageviews import PRODUCTS
from demo.webrequests import STREAM, View, generate
from platform_resources.config import SOURCE_ROOT
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.engines.duck import create_empty_tables
from platform_resources.errors import PlatformError
from platform_resources.sourcing import source
from tests.products.conftest import World, world_of  # noqa: F401 - a fixture

REQUESTS = 9_000


@pytest.fixture(scope="module")
def read(world_of: Callable[[Path], World]) -> tuple[World, list[View]]:  # noqa: F811
    """Two hours of requests, worked in two halves that share an hour, so that the second is worked incrementally."""
    world = world_of(SOURCE_ROOT)
    made = list(generate(REQUESTS, seed=3, hours=2))
    for half in (made[: REQUESTS // 3], made[REQUESTS // 3 :]):
        report = world.produce(STREAM, [line for line, _ in half])
        assert (report.accepted, report.refusals) == (len(half), [])
        world.ingest("traffic/webrequest")
        for product in PRODUCTS:
            world.derive(f"traffic/{product}")
    return world, [view for _, view in made if view is not None]


def rows(world: World, product: str) -> list[dict[str, Any]]:
    return source(f"traffic/{product}", registry=world.registry, lakehouse=world.lakehouse, reader="traffic").arrow().to_pylist()


def test_every_request_landed_once(read: tuple[World, list[View]]) -> None:
    world, views = read
    assert len(rows(world, "webrequest")) == REQUESTS
    assert len(rows(world, "pageview")) == len(views) > REQUESTS / 12


def test_each_hour_counts_each_page_as_it_was_read(read: tuple[World, list[View]]) -> None:
    world, views = read
    found: Counter[View] = Counter()
    for row in rows(world, "pageview_hourly"):
        key = View(row["hour"].astimezone(UTC), row["project"], row["page_title"], row["access_method"], row["agent_type"])
        found[key] += row["view_count"]
    assert found == Counter(views)
    assert {view.agent_type for view in found} == {"user", "spider", "automated"}
    assert {view.hour for view in found} == {datetime(2026, 1, 5, hour, tzinfo=UTC) for hour in (12, 13)}


def test_the_day_has_the_hours_sums_and_its_list_of_top_pages(read: tuple[World, list[View]], realdata: Path) -> None:
    world, views = read
    daily = Counter((view.project, view.page_title, view.access_method, view.agent_type) for view in views)
    assert {(r["project"], r["article"], r["access"], r["agent"]): r["views"] for r in rows(world, "pageview_per_article")} == dict(daily)

    expected: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for view in views:
        if view.agent_type == "user":
            expected[view.project, view.access_method][view.page_title] += 1
            expected[view.project, "all-access"][view.page_title] += 1
    lists: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows(world, "pageview_top"):
        lists[row["project"], row["access"]].append({"rank": row["rank"], "article": row["article"], "views": row["views"]})
    assert lists.keys() == expected.keys()
    for key, entries in lists.items():
        ordered = sorted(expected[key].items(), key=lambda entry: (-entry[1], entry[0].encode()))[:1000]
        assert sorted(entries, key=lambda entry: entry["rank"]) == [
            {"rank": rank, "article": article, "views": count} for rank, (article, count) in enumerate(ordered, 1)
        ]
    real = json.loads((realdata / "pageviews" / "top_monthly_202306.json").read_text())["article_views"]
    assert all(entry.keys() == real[0].keys() for entries in lists.values() for entry in entries)  # the API's own shape
    assert [entry["rank"] for entry in real[:100]] == list(range(1, 101))


def test_browsers_are_counted_and_rare_ones_hidden(read: tuple[World, list[View]]) -> None:
    world, views = read
    found = rows(world, "browser_daily")
    read_by_people = sum(view.agent_type in ("user", "automated") for view in views)  # a scraper says to be a browser
    assert sum(row["views"] for row in found) == read_by_people
    assert {row["browser_family"] for row in rows(world, "pageview_agent")} >= {"Firefox", "Chrome Mobile", "Googlebot"}
    assert all(row["browser_family"] == "Other" or row["views"] >= 100 for row in found)


def test_robots_that_only_the_rules_of_user_agents_know_are_no_browsers() -> None:
    registry = Registry.load(SOURCE_ROOT)
    contract = registry.get("traffic/pageview_agent")
    with duckdb.connect() as con:
        con.execute("set TimeZone = 'UTC'")
        create_empty_tables(con, {contract.identifier: table_definition(contract).schema})
        for family, device, count in (("Firefox", "Other", 120), ("WhatsApp", "Spider", 500)):
            con.execute(
                "insert into traffic.pageview_agent by name select timestamptz '2026-01-05 12:30:00Z' as dt, 'desktop' as access_method, "
                "'user' as agent_type, ? as browser_family, '1' as browser_major, 'Other' as os_family, ? as device_family from range(?)",
                [family, device, count],
            )
        found = con.execute((SOURCE_ROOT / "data_products/traffic/browser_daily.sql").read_text()).to_arrow_table().to_pylist()
    assert [(row["browser_family"], row["views"]) for row in found] == [("Firefox", 120)]


def test_countries_are_coarse_and_those_of_endangered_readers_left_out(realdata: Path) -> None:
    lines = [line.split("\t") for line in (realdata / "canonical_data" / "countries.tsv").read_text().splitlines()]
    code, is_protected = lines[0].index("iso_code"), lines[0].index("is_protected")
    protected = {line[code] for line in lines[1:] if line[is_protected] == "True"}
    given = {"NL": 250, "DE": 100, "FR": 99, "US": 1_001, **dict.fromkeys(sorted(protected), 300)}
    registry = Registry.load(SOURCE_ROOT)
    with duckdb.connect() as con:
        con.execute("set TimeZone = 'UTC'")
        names = ("traffic/pageview", "traffic/automated_actor")
        create_empty_tables(con, {registry.get(key).identifier: table_definition(registry.get(key)).schema for key in names})
        for country, count in given.items():
            con.execute(
                "insert into traffic.pageview by name select timestamptz '2026-01-05 12:30:00Z' as dt, 'en.wikipedia' as project, 'user' "
                "as agent_type, 'desktop' as access_method, ? as country_code, 'a' || i as actor from range(?) as t(i)",
                [country, count],
            )
        con.execute(  # many views by few readers, too few to hide among
            "insert into traffic.pageview by name select timestamptz '2026-01-05 12:30:00Z' as dt, 'en.wikipedia' as project, 'user' "
            "as agent_type, 'desktop' as access_method, 'VU' as country_code, 'v' || i % 9 as actor from range(300) as t(i)"
        )
        con.execute("insert into traffic.automated_actor by name select 'a0' as actor, timestamptz '2026-01-05 12:00:00Z' as hour")
        found = con.execute((SOURCE_ROOT / "data_products/traffic/pageview_by_country.sql").read_text()).to_arrow_table().to_pylist()
    assert {row["country_code"]: row["views_ceil"] for row in found} == {"NL": 300, "US": 1_000}


def test_single_requests_are_for_the_domain_alone_and_its_counts_for_all(read: tuple[World, list[View]]) -> None:
    world, _ = read
    assert world.query("select sum(view_count) as n from traffic.pageview_hourly")
    for product in ("webrequest", "pageview", "automated_actor", "pageview_agent"):
        contract = world.registry.get(f"traffic/{product}")
        assert contract.classification == "restricted" and contract.sla.retention is not None and contract.sla.retention.days == 60
        for reader in (None, "activity"):
            with pytest.raises(PlatformError) as caught:
                source(contract.key, registry=world.registry, lakehouse=world.lakehouse, reader=reader).polars()
            assert caught.value.code == ("reader-refused" if reader else "reader-untold")
    for product in (
        "pageview_hourly",
        "pageview_per_article",
        "pageview_top",
        "pageview_by_country",
        "browser_daily",
        "query_service_hourly",
    ):
        contract = world.registry.get(f"traffic/{product}")
        assert contract.classification == "public" and contract.readers is None and contract.sla.retention is None
        assert not any(column.is_pii for _, column in contract.walk())

"""Checks on a staged, uncommitted write."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from platform_resources.config import SOURCE_ROOT
from platform_resources.contracts.registry import Registry
from platform_resources.engines.audit import audit, audit_relation
from platform_resources.engines.duck import connect

TOTALS = "select shop, count(*) as orders, sum(amount) as total from shop.orders group by shop"
TRACED = """\
      - {name: shop, logicalType: string, tags: ['pii:test']}
      - {name: orders, logicalType: integer}
      - {name: total, logicalType: number, physicalType: "decimal(38,2)"}
"""
QUALITY = ", ".join(
    [
        "{name: some, metric: rowCount, mustBeGreaterThan: 0}",
        "{name: named, type: library, metric: nullValues, arguments: {properties: [shop]}, mustBe: 0}"
        if False
        else "{name: rich, type: sql, query: 'select count(*) from {object} where total < 2', mustBe: 0}",
        "{name: broken, type: sql, query: 'select nope from {object}', mustBe: 0}",
        "{name: silent, type: sql, query: 'select max(orders) from {object} where false', mustBe: 0}",
        "{name: alone, metric: duplicateValues, arguments: {properties: [orders]}, mustBe: 0}",
    ]
)


def outcomes(shop: Any, an_order: Any, **options: Any) -> dict[str, Any]:
    shop.totals(TOTALS, quality=QUALITY, properties=TRACED)
    shop.put("orders", an_order(1, "a"), an_order(2, "b", "5.00"))
    staged = shop.derivation().stage(run_id="r").staged
    with connect(shop.settings) as con:
        found = audit(con, staged, shop.contract(), **options)
    staged.discard()
    return {outcome.check.name: outcome for outcome in found}


def test_each_check_says_its_verdict_before_anything_is_published(shop: Any, an_order: Any) -> None:
    found = outcomes(shop, an_order)
    assert {name: (one.passed, one.measured, one.rows) for name, one in found.items()} == {
        "some": (True, 2.0, 2), "rich": (False, 1.0, 2), "broken": (False, 0.0, 2), "silent": (False, 0.0, 2), "alone": (False, 1.0, 2),
    }  # fmt: skip
    assert shop.rows() == []


def test_a_check_that_cannot_run_fails_with_its_reason(shop: Any, an_order: Any) -> None:
    found = outcomes(shop, an_order)
    assert "nope" in found["broken"].error
    assert found["silent"].error == "The query gave no value."


def test_offending_rows_are_shown(shop: Any, an_order: Any) -> None:
    assert outcomes(shop, an_order)["alone"].sample == ({"orders": 1, "rows": 2},)


HIGH = "{metric: invalidValues, name: low, arguments: {maximum: 4}, mustBe: 0}"


@pytest.mark.parametrize(
    ("key", "identity"),
    [
        ("", {"shop": "***", "orders": 1}),  # no key at all: the first plain columns
        ("required: true, primaryKey: true, primaryKeyPosition: 1, ", {"orders": 1}),
    ],
)
def test_an_offending_row_is_shown_with_what_its_owner_finds_it_by(shop: Any, an_order: Any, key: str, identity: dict[str, Any]) -> None:
    properties = TRACED.replace("name: orders, ", f"name: orders, {key}").replace('(38,2)"}', f'(38,2)", quality: [{HIGH}]}}')
    shop.totals(TOTALS, properties=properties)
    shop.put("orders", an_order(1, "a"), an_order(2, "b", "5.00"))
    staged = shop.derivation().stage(run_id="r").staged
    with connect(shop.settings) as con:
        (low,) = audit(con, staged, shop.contract())
    staged.discard()
    assert low.sample == ({**identity, "total": Decimal("5.00")},)


def test_an_offending_row_of_a_stream_is_shown_with_its_event_and_offset() -> None:
    contract = Registry.load(SOURCE_ROOT).get("mediawiki/recentchange")
    check = replace(contract.checks[0], metric="invalidValues", column="wiki", arguments={"validValues": ["enwiki"]}, name="ours")
    with duckdb.connect() as con:
        con.execute("create table rows as select {'id': 'e1'} as meta, 'xx' as wiki, 'rc' as _topic, 0 as _partition, 7::bigint as _offset")
        (ours,) = audit_relation(con, "rows", [check], contract)
    assert ours.sample == ({"meta.id": "e1", "_topic": "rc", "_partition": 0, "_offset": 7, "wiki": "xx"},)


def test_a_row_that_only_some_may_read_is_shown_by_its_place_alone() -> None:
    """Whoever looks at the UI sees the sample; who may read the product finds the row by its place in the log."""
    contract = replace(Registry.load(SOURCE_ROOT).get("mediawiki/recentchange"), readers=("mediawiki",))
    check = replace(contract.checks[0], metric="invalidValues", column="wiki", arguments={"validValues": ["enwiki"]}, name="ours")
    with duckdb.connect() as con:
        con.execute("create table rows as select {'id': 'e1'} as meta, 'xx' as wiki, 'rc' as _topic, 0 as _partition, 7::bigint as _offset")
        (ours,) = audit_relation(con, "rows", [check], contract)
        con.execute("insert into rows from rows")
        (alone,) = audit_relation(con, "rows", [replace(check, metric="duplicateValues", columns=("wiki",))], contract)
    assert ours.sample == ({"meta.id": "***", "_topic": "rc", "_partition": 0, "_offset": 7, "wiki": "***"},)
    assert alone.sample == ()


def test_a_skipped_check_has_no_outcome(shop: Any, an_order: Any) -> None:
    assert "broken" not in outcomes(shop, an_order, skip=["broken"])

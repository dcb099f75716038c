"""The current view: the newest slice or the rows that hold now, in queries, transforms and from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from platform_resources.contracts.registry import Registry
from platform_resources.engines.derivation import Derivation
from platform_resources.engines.loading import check_transform, read_transform
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.sourcing import query, source
from tests.landing.drops import SLICED, Shop

VALIDITY = {**SLICED, "custom": "{property: validity, value: true}"}
TOTALS = """\
apiVersion: v3.2.0
kind: DataContract
id: shop.totals
version: 1.0.0
status: draft
description: {purpose: Orders by state.}
schema:
  - name: totals
    logicalType: object
    properties:
      - {name: state, logicalType: string}
      - {name: orders, logicalType: integer}
"""


def _registry(shop: Shop) -> Registry:
    folder: Path = shop.contract.path.parent
    (folder / "domain.yaml").write_text("name: shop\ntitle: Shop\nowners: [team:shop]\n")
    return Registry.load(shop.settings.project)


@pytest.fixture(params=["slices", "validity"])
def filled(shop: Shop, request: pytest.FixtureRequest) -> Shop:
    shop.define(**(SLICED if request.param == "slices" else VALIDITY))
    shop.files.update({"2026-01-01/a.csv": [(1, "new"), (2, "new")], "2026-01-02/a.csv": [(1, "paid"), (3, "new")]})
    shop.land()
    return shop


def test_every_way_of_reading_gives_the_same_current_rows(filled: Shop) -> None:
    registry = _registry(filled)
    now = source("shop/orders", registry=registry, lakehouse=filled.lakehouse).current()
    expected = [(1, "paid"), (3, "new")]
    assert sorted(now.duckdb().project("order_id, state").fetchall()) == expected
    assert sorted(now.polars().select("order_id", "state").collect().rows()) == expected
    assert sorted(zip(*(now.arrow()[name].to_pylist() for name in ("order_id", "state")), strict=True)) == expected
    text = "select c.order_id, state from shop.orders__current c where state is not null"
    assert sorted(tuple(row.values()) for row in query(text, filled.settings, registry).to_pylist()) == expected
    assert query("select count(*) as n from shop.orders__current", filled.settings, registry).to_pylist() == [{"n": 2}]


def test_a_transform_reads_the_current_rows(filled: Shop) -> None:
    folder = filled.contract.path.parent
    (folder / "totals.yaml").write_text(TOTALS)
    (folder / "totals.sql").write_text("select state,\n  count(*) as orders\nfrom shop.orders__current\ngroup by state\n")
    registry = _registry(filled)
    contract = registry.get("shop/totals")
    assert [str(problem) for problem in check_transform(contract, registry) if problem.severity == "error"] == []
    transform = read_transform(contract, registry)
    assert transform is not None
    assert tuple(transform.inputs) == ("shop/orders",)
    derived = Derivation(contract, transform, lakehouse=filled.lakehouse, registry=registry, settings=filled.settings).stage(run_id="r")
    assert derived.staged is not None
    derived.staged.commit()
    table = filled.lakehouse.table("shop.totals")
    assert table is not None
    assert sorted(tuple(row.values()) for row in arrow_table(table).to_pylist()) == [("new", 1), ("paid", 1)]


def test_a_product_without_slices_has_no_current_view(shop: Shop) -> None:
    shop.files["a.csv"] = [(1, "new")]
    shop.land()
    registry = _registry(shop)
    with pytest.raises(PlatformError, match="neither slices nor a validity") as caught:
        query("select * from shop.orders__current", shop.settings, registry)
    assert caught.value.code == "no-current-view"
    with pytest.raises(PlatformError, match="neither slices nor a validity"):
        source("shop/orders", registry=registry, lakehouse=shop.lakehouse).current()

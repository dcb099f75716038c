"""The contracts of the repository's own products: clean, active, and as strict as the real schemas they are made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from platform_resources.config import SOURCE_ROOT
from platform_resources.contracts.json_schema import event_schema
from platform_resources.contracts.registry import Registry
from platform_resources.engines.loading import check_transform, read_transform

TRAFFIC = (
    "traffic/pageview",
    "traffic/automated_actor",
    "traffic/pageview_hourly",
    "traffic/pageview_by_country",
    "traffic/pageview_per_article",
    "traffic/pageview_top",
    "traffic/browser_daily",
)
CONTENT = ("content/history", "content/current")
PRODUCTS = (
    "activity/edit_statistics",
    "activity/top_pages",
    *CONTENT,
    "mediawiki/page_change",
    "mediawiki/page_content_change",
    "mediawiki/recentchange",
    "traffic/webrequest",
    "trust_safety/reverts",
    *TRAFFIC,
)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load(SOURCE_ROOT)


def test_no_contract_has_a_problem(registry: Registry) -> None:
    assert registry.problems == ()
    assert set(PRODUCTS) <= registry.contracts.keys()


@pytest.mark.parametrize("key", PRODUCTS)
def test_product_is_active_documented_and_its_transform_valid(key: str, registry: Registry) -> None:
    contract = registry.get(key)
    assert contract.status == "active"
    assert contract.purpose and contract.limitations and contract.usage and contract.owners
    assert any(channel.address for channel in contract.support)
    assert contract.sla.latency is not None
    assert check_transform(contract, registry) == []
    assert (read_transform(contract, registry) is None) == contract.is_stream


def test_incremental_products_are_traced_to_their_input(registry: Registry) -> None:
    """Without a trace every change would recompute everything."""
    for key in ("activity/edit_statistics", "activity/top_pages", "trust_safety/reverts", *CONTENT, *TRAFFIC[1:]):
        transform = read_transform(registry.get(key), registry)
        assert transform is not None
        assert transform.keys.keys() == set(transform.inputs), transform.untraced
        assert transform.lineage.keys() == {column.name for column in registry.get(key).columns}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("mediawiki/page_change", "primary__mediawiki__page__change"),
        ("mediawiki/page_content_change", "primary__mediawiki__page__change"),
        ("mediawiki/recentchange", "primary__mediawiki__recentchange"),
    ],
)
def test_contract_asks_of_an_event_what_the_real_schema_asks(key: str, name: str, registry: Registry, realdata: Path) -> None:
    real = yaml.safe_load((realdata / "event_schemas" / f"{name}.yaml").read_text())
    ours = event_schema(registry.get(key))
    assert ours["$id"] == real["$id"]
    missing = sorted(set(demands(real)) - set(demands(ours)))
    # A date-time longer than 128 characters is no date-time that a table can hold; an array or object that is JSON text may hold anything.
    assert [demand for demand in missing if demand[1] != "maxLength" or demand[2] != "128"] == []
    added = {demand for demand in set(demands(ours)) - set(demands(real)) if demand[1] not in ("minimum", "maximum")}
    assert added == set()


def demands(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, str, str]]:
    """What a schema asks of each field, as (path, keyword, value); null beside a type and additional fields are the default."""
    for keyword, value in schema.items():
        if keyword == "properties":
            for name, child in value.items():
                yield from demands(child, f"{path}.{name}")
        elif keyword in ("additionalProperties", "items") and isinstance(value, dict):
            yield from demands(value, f"{path}.{keyword}")
        elif keyword in ("type", "enum", "required"):
            kept = sorted(str(item) for item in (value if isinstance(value, list) else [value]) if item not in (None, "null"))
            yield path, keyword, ",".join(kept)
        elif keyword not in ("$id", "$schema", "title", "description", "examples", "definitions") and value is not True:
            yield path, keyword, str(value)

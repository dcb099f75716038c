"""What Dagster shows of a contract."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from platform_resources.contracts.model import Domain
from platform_resources.contracts.registry import Registry
from platform_resources.contracts.specs import asset_check_specs, asset_spec, column_schema, render
from tests.contracts.conftest import Read, sound


def registry_of(project: Path, domain: Domain) -> Registry:
    return Registry(project, {domain.name: domain}, {}, ())


def test_the_asset_says_all_that_the_contract_says(read: Read, project: Path, domain: Domain, table: dict[str, Any]) -> None:
    table |= {
        "team": {
            "name": "Retail data",
            "members": [{"username": "ann@example.org", "role": "owner"}, {"username": "bo@example.org", "role": "steward"}],
        },
        "support": [{"channel": "shop@example.org", "tool": "email"}],
        "slaProperties": [{"property": "latency", "value": 20, "unit": "minutes"}, {"property": "retention", "value": 90, "unit": "d"}],
        "tags": ["finance", "tier:gold", "no good tag!"],
    }
    table["description"] |= {"limitations": "No refunds.", "usage": "Sum amount."}
    contract = sound(read(table))
    spec = asset_spec(
        contract, registry=registry_of(project, domain), deps=[["shop", "orders"]], kinds=["sql", "duckdb"], code_version="abc"
    )
    assert spec.key == dg.AssetKey(["shop", "sales"]) and spec.group_name == "shop" and list(spec.owners) == ["ann@example.org"]
    assert spec.kinds == {"iceberg", "sql", "duckdb"} and spec.code_version == "abc"
    assert spec.description == "Sales per shop and day.\n\n**Limits.** No refunds.\n\n**Usage.** Sum amount."
    assert spec.tags["finance"] == "" and spec.tags["tier"] == "gold" and "no good tag!" not in spec.tags
    assert spec.metadata["sdp/contract"] == "data_products/shop/sales.yaml"
    assert (spec.metadata["sdp/retention"], spec.metadata["sdp/support"]) == ("90 days", "shop@example.org")
    assert render(spec)["freshness"] == {"fail": "20 minutes", "warn": "15 minutes"}
    dg.Definitions(assets=[spec]).get_repository_def()  # Dagster validates owners, tags and kinds


def test_freshness_is_never_shorter_than_dagster_can_see(read: Read, project: Path, domain: Domain, table: dict[str, Any]) -> None:
    table["slaProperties"] = [{"property": "latency", "value": 5, "unit": "s"}]
    contract = sound(read(table))
    assert contract.sla.latency == timedelta(seconds=5)
    assert render(asset_spec(contract, registry=registry_of(project, domain)))["freshness"] == {"fail": "1 minute"}


def test_at_most_ten_kinds(read: Read, project: Path, domain: Domain, table: dict[str, Any]) -> None:
    spec = asset_spec(sound(read(table)), registry=registry_of(project, domain), kinds=[f"k{n}" for n in range(20)])
    assert len(spec.kinds) == 10


def test_columns_carry_types_nesting_and_constraints(read: Read, stream: dict[str, Any]) -> None:
    stream["schema"][0]["properties"][2] |= {"logicalTypeOptions": {"minimum": 1}, "unique": True, "tags": ["pii:direct"]}
    schema = column_schema(sound(read(stream)))
    columns = {column.name: column for column in schema.columns}
    assert [columns[name].type for name in ("meta", "meta.dt", "tags", "order_id", "_event_hash")] == [
        "struct",
        "timestamptz",
        "list<string>",
        "long",
        "fixed[16]",
    ]
    order = columns["order_id"]
    assert (order.constraints.nullable, order.constraints.unique, list(order.constraints.other)) == (False, True, ["minimum: 1"])
    assert dict(order.tags) == {"pii/direct": ""}
    assert schema.constraints is not None and list(schema.constraints.other) == ["partitioned by meta_dt_day"]


def test_checks_become_asset_checks_and_errors_block(read: Read, table: dict[str, Any]) -> None:
    table["schema"][0]["properties"][2]["quality"] = [{"metric": "nullValues", "mustBe": 0, "severity": "warning"}]
    specs = {spec.name: spec for spec in asset_check_specs(sound(read(table)))}
    assert (specs["some_rows"].blocking, specs["amount_nullValues"].blocking) == (True, False)
    assert specs["amount_nullValues"].description == "NullValues of amount must be 0 rows."
    assert specs["some_rows"].asset_key == dg.AssetKey(["shop", "sales"])


def test_the_rendering_is_plain_and_stable(read: Read, project: Path, domain: Domain, stream: dict[str, Any]) -> None:
    first, second = (
        json.dumps(render(asset_spec(sound(read(stream)), registry=registry_of(project, domain))), sort_keys=True) for _ in range(2)
    )
    assert first == second
    assert str(project) not in first

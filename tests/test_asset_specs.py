"""Every asset, check and sensor of every location, as plain data under review: a change of any of them shows in the diff.

`make snapshot` renews the file. Hashes of code are left out; they would change with every comment.
"""

from __future__ import annotations

import json
import os
from typing import Any

import dagster as dg
import pytest

from data_products.assembly import domain_definitions
from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.specs import render
from platform_resources.workspace import read_locations

SNAPSHOT = SOURCE_ROOT / "tests" / "snapshots" / "asset_specs.json"
LOCATIONS = {location.name: location.module.rpartition(".")[0] for location in read_locations(SOURCE_ROOT)}


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The locations as they are now."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), project=SOURCE_ROOT)
    return {name: describe(domain_definitions(package, settings=settings)) for name, package in LOCATIONS.items()}


def describe(definitions: dg.Definitions) -> dict[str, Any]:
    """One location as plain data, sorted, without anything that depends on the machine."""
    repository = definitions.get_repository_def()
    made = [assets for assets in definitions.assets or () if isinstance(assets, dg.AssetsDefinition)]
    assets = sorted((spec for definition in made for spec in definition.specs), key=lambda spec: spec.key.to_user_string())
    pools = {key.to_user_string(): definition.op.pool for definition in made if definition.is_executable for key in definition.keys}
    return {
        "assets": [
            {
                **{name: value for name, value in render(spec).items() if name != "code_version"},
                "pool": pools.get(spec.key.to_user_string()),
            }
            for spec in assets
        ],
        "checks": [
            {"asset": check.asset_key.to_user_string(), "name": check.name, "blocking": check.blocking, "description": check.description}
            for check in sorted(
                (check for definition in made for check in definition.check_specs), key=lambda check: (check.asset_key.path, check.name)
            )
        ],
        "sensors": [
            {"name": sensor.name, "status": sensor.default_status.value, "seconds": sensor.minimum_interval_seconds}
            for sensor in sorted(repository.sensor_defs, key=lambda sensor: sensor.name)
        ],
    }


def test_locations_are_as_reviewed(described: dict[str, Any]) -> None:
    text = json.dumps(described, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if os.environ.get("SDP_UPDATE_SNAPSHOT"):
        SNAPSHOT.parent.mkdir(exist_ok=True)
        SNAPSHOT.write_text(text, encoding="utf-8")
    reviewed = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    for name in sorted({*reviewed, *described}):
        for kind in ("assets", "checks", "sensors"):
            before = {json.dumps(entry, sort_keys=True) for entry in reviewed.get(name, {}).get(kind, ())}
            now = {json.dumps(entry, sort_keys=True) for entry in described.get(name, {}).get(kind, ())}
            assert before == now, f"{kind} of {name} changed; run `make snapshot` and let the diff be reviewed"


def test_every_product_says_who_answers_for_it_and_what_it_holds(described: dict[str, Any]) -> None:
    for name, location in described.items():
        for asset in location["assets"]:
            assert asset["key"].startswith(f"{name}/")
            assert asset["group"] == name
            assert asset["owners"], asset["key"]
            assert asset["description"], asset["key"]
            assert asset["freshness"], asset["key"]
            assert asset["metadata"]["dagster/column_schema"]["columns"], asset["key"]
            assert "iceberg" in asset["kinds"], asset["key"]
            assert asset["pool"], asset["key"]


def test_derived_products_show_their_lineage_across_locations(described: dict[str, Any]) -> None:
    statistics = next(asset for asset in described["activity"]["assets"] if asset["key"] == "activity/edit_statistics")
    assert statistics["deps"] == ["mediawiki/page_change"]
    assert "mediawiki" in json.dumps(statistics["metadata"]["dagster/column_lineage"])


def test_every_location_runs_its_sensors_by_default(described: dict[str, Any]) -> None:
    for location in described.values():
        assert location["sensors"]
        assert {sensor["status"] for sensor in location["sensors"]} == {"RUNNING"}

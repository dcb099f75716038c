"""docs/contracts.md is true: its examples are read without a problem and every name of ours is described there."""

from __future__ import annotations

import re
from pathlib import Path

from platform_resources.config import SOURCE_ROOT
from platform_resources.contracts.custom import NAMES
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.contracts.rules import OPERATORS
from platform_resources.contracts.specs import asset_check_specs, asset_spec
from platform_resources.contracts.typing_rules import PHYSICAL

PAGE = SOURCE_ROOT / "docs" / "contracts.md"


def test_the_examples_are_sound_and_compile(tmp_path: Path) -> None:
    page = PAGE.read_text()
    for kind, place, text in re.findall(r"```yaml (contract|domain)=(\S+)\n(.*?)```", page, re.DOTALL):
        path = tmp_path / "data_products" / (f"{place}.yaml" if kind == "contract" else f"{place}/domain.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "data_products" / "shop" / "daily_sales.sql").write_text("select 1")
    registry = Registry.load(tmp_path)
    assert [str(problem) for problem in registry.problems] == []
    assert set(registry.contracts) == {"shop/orders", "shop/daily_sales"}
    for contract in registry.contracts.values():
        table_definition(contract)
        asset_spec(contract, registry=registry)
        asset_check_specs(contract)


def test_every_name_of_ours_is_described() -> None:
    page = PAGE.read_text()
    words = {name for names in NAMES.values() for name in names} | set(OPERATORS) | set(PHYSICAL)
    assert [word for word in sorted(words) if f"`{word}`" not in page] == []

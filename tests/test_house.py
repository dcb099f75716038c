"""House rules that no linter holds: who may import whom among the domains, whatever domains there are."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from platform_resources.config import SOURCE_ROOT

DOMAINS = sorted(file.parent for file in (SOURCE_ROOT / "data_products").glob("*/domain.yaml"))
OWN_LAYERS = {"data_products", "sensors", "io_managers"}


def imported(file: Path) -> set[str]:
    """Dotted names of all modules a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda folder: folder.name)
def test_a_domain_imports_no_other_domain_and_of_the_platform_only_its_surface(domain: Path) -> None:
    others = {f"data_products.{folder.name}" for folder in DOMAINS if folder != domain}
    for file in domain.rglob("*.py"):
        names = imported(file)
        assert not {name for name in names if any(name == other or name.startswith(f"{other}.") for other in others)}, file
        platform = {name for name in names if name.split(".")[0] in {*OWN_LAYERS, "platform_resources"}}
        allowed = {"data_products.assembly", "data_products.assembly.domain_definitions"} if file.name == "definitions.py" else set()
        assert platform <= allowed | {"platform_resources", "platform_resources.data_product", "platform_resources.source"}, file

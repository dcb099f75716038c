"""docs/transforms.md is true: its examples pass `sdp check`, and can do what the page says they can."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from platform_resources.config import SOURCE_ROOT
from platform_resources.contracts.registry import Registry
from platform_resources.engines.loading import check_transform, read_transform
from platform_resources.engines.python import _ENGINES
from platform_resources.engines.sql import ROW_SOURCES

DOCS = SOURCE_ROOT / "docs"
PAGE = (DOCS / "transforms.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```(\w+) (?:contract|domain|product)=(\S+)\n(.*?)```", re.DOTALL)


@pytest.fixture
def shop(tmp_path: Path) -> Registry:
    """The page's products over the stream of docs/contracts.md."""
    stream = [block for block in BLOCK.findall((DOCS / "contracts.md").read_text(encoding="utf-8")) if block[1] in ("shop", "shop/orders")]
    for language, place, text in [*stream, *BLOCK.findall(PAGE)]:
        suffix = {"python": ".py", "yaml": ".yaml", "sql": ".sql"}[language]
        path = tmp_path / "data_products" / (f"{place}{suffix}" if "/" in place else f"{place}/domain.yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Registry.load(tmp_path)


def test_the_examples_are_sound_in_every_mode(shop: Registry) -> None:
    told = [problem for problem in shop.problems if problem.code != "contract-retention-untold"]  # promises are another page's
    assert [str(problem) for problem in told] == []
    modes = set()
    for key, contract in shop.contracts.items():
        assert [str(problem) for problem in check_transform(contract, shop)] == [], key
        transform = read_transform(contract, shop)
        if transform is not None:
            modes.add((transform.kind, contract.incremental))
            assert set(transform.keys) == ({"shop/orders"} if contract.incremental in ("key", "partition") else set()), key
    assert modes == {("sql", "append"), ("sql", "key"), ("sql", "partition"), ("python", "key")}


def test_the_page_names_what_may_be_annotated_and_stand_in_from() -> None:
    names = {f"{kind.__module__.split('.')[0].lstrip('_')}.{kind.__name__}" for kind in _ENGINES}
    assert len(names) == 4
    names.add("pyspark.sql.DataFrame")  # not imported to be named
    assert [name for name in sorted(names | ROW_SOURCES) if f"`{name}`" not in PAGE] == []


def test_every_code_the_page_names_is_one_of_the_platform() -> None:
    package = SOURCE_ROOT / "platform_resources"
    source = "\n".join(file.read_text(encoding="utf-8") for folder in ("engines", "lakehouse") for file in (package / folder).glob("*.py"))
    codes = set(re.findall(r"`((?:sql|python|column|transform|append)-[a-z-]+)`", PAGE))
    assert len(codes) >= 10
    assert [code for code in sorted(codes) if code not in source and not code.endswith("-key-untraceable")] == []

"""docs/how-to/land-files.md says what the platform does: its table of texts, its codes, its names."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.types import BooleanType, DecimalType, DoubleType, LongType

from platform_resources.config import SOURCE_ROOT
from platform_resources.contracts.model import Column, Contract
from platform_resources.landing import files
from platform_resources.landing.text_columns import TextColumns

PAGE = (SOURCE_ROOT / "docs" / "how-to" / "land-files.md").read_text(encoding="utf-8")
KINDS = {"integer": LongType(), "`decimal(6,2)`": DecimalType(6, 2), "number": DoubleType(), "boolean": BooleanType()}
ROWS = [tuple(map(str.strip, row)) for row in re.findall(r"^\| (.+?) \| (.+?) \| (.*?) ?\|$", PAGE, re.MULTILINE)]
TEXTS = [
    (kind, text, became)
    for columns, texts, became in ROWS
    for kind in columns.split(", ")
    for text in re.findall(r"`([^`]+)`", texts)
    if kind in KINDS
]


@pytest.mark.parametrize(("kind", "text", "became"), TEXTS)
def test_the_table_of_texts_is_right(kind: str, text: str, became: str) -> None:
    contract = Contract("shop", "drop", Path("drop.yaml"), "1.0.0", "active", "", (Column("c", KINDS[kind]),))
    block = TextColumns(contract).typed({"c": pa.array([text])}, pa.array([1]), lambda row: None)
    told = re.findall(r"refused: `([a-z-]+)`", became)
    assert [one.reason for one in block.refused] == told


def test_the_codes_and_names_of_the_page_are_the_platforms() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (SOURCE_ROOT / "platform_resources").rglob("*.py"))
    codes = set(re.findall(r"\(`([a-z]+-[a-z-]+)`", PAGE))
    assert {"file-changed", "file-damaged", "file-encoding", "file-header", "file-malformed", "file-columns"} <= codes
    assert not [code for code in codes if f'"{code}"' not in source]
    assert all(f"`{ending}`" in PAGE for ending in files._UNFINISHED)
    assert len(TEXTS) > 15

"""A transform that fails while its rows are made, and the version of the code that makes them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import data_products
from platform_resources.config import SOURCE_ROOT
from platform_resources.errors import PlatformError

NUMBERS = """\
      - {name: shop, logicalType: string}
      - {name: n, logicalType: integer}
"""
HEADER = """\
import duckdb
import pyarrow as pa
from platform_resources import data_product
"""
LATE = "select shop, cast(case when n = 1200000 then 'x' else '1' end as int) as n from {orders}, (select unnest(range(1300000)) as n)"
ROWS = """
@data_product(inputs={'orders': 'shop/orders'})
def totals(orders: pa.Table) -> pa.RecordBatchReader:
    def rows():
        yield pa.record_batch({'shop': ['a'], 'n': [1]})
        FAILS
    return pa.RecordBatchReader.from_batches(pa.schema([('shop', pa.string()), ('n', pa.int64())]), rows())
"""
RELATION = f"""
@data_product(inputs={{'orders': 'shop/orders'}})
def totals(orders: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:
    return orders.query('o', {LATE.format(orders="o")!r})
"""
FAILURES = {
    "query": ("sql", LATE.format(orders="shop.orders"), 0, "Could not convert string 'x' to INT32"),
    "relation": ("py", HEADER + RELATION, 5, "Could not convert string 'x' to INT32"),
    "rows": ("py", HEADER + ROWS.replace("FAILS", "raise ValueError('no\\nway')"), 9, "ValueError: no"),
    "told": ("py", HEADER + ROWS.replace("FAILS", "raise KeyError"), 9, "KeyError"),
    "exit": ("py", HEADER + ROWS.replace("FAILS", "raise SystemExit(3)"), 9, "SystemExit: 3"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_after_the_first_rows_is_told_like_one_before_them(shop: Any, an_order: Any, case: str) -> None:
    suffix, text, line, said = FAILURES[case]
    shop.put("orders", an_order(1, "a"))
    shop.totals(text, suffix=suffix, properties=NUMBERS)
    with pytest.raises(PlatformError) as caught:
        shop.derive()
    assert (caught.value.code, caught.value.line) == ("transform-failed", line)
    assert caught.value.file == f"data_products/shop/totals.{suffix}"
    assert caught.value.message == f"The transform failed: {said}."
    table = shop.lakehouse.table("shop.totals")
    assert table is None or table.scan().count() == 0


@pytest.mark.parametrize("kind", ["duckdb.IOException", "OSError"], ids=["duckdb", "streamed"])
@pytest.mark.parametrize("status", [503, 403, None])
def test_an_outage_of_the_store_is_no_fault_of_the_transform(shop: Any, an_order: Any, kind: str, status: int | None) -> None:
    said = f"(HTTP {status} Sorry)" if status else "in region 'r'"
    failing = f"raise {kind}(\"HTTP Error: Could not connect error for HTTP GET to 'http://store:1/lake/a.parquet' {said}\")"
    shop.put("orders", an_order(1, "a"))
    shop.totals(HEADER + ROWS.replace("FAILS", failing), suffix="py", properties=NUMBERS)
    with pytest.raises(PlatformError) as caught:
        shop.derive()
    assert caught.value.code == ("store-refused" if status == 403 else "store-unreachable")
    assert "/lake/a.parquet" in caught.value.message and caught.value.file == ""


def test_a_session_draws_no_progress_on_stdout(tmp_path: Path) -> None:
    """Asked of `python -c`, which DuckDB takes for a person at a screen; a cursor must not draw either."""
    code = (
        "import sys; from pathlib import Path; from platform_resources.config import Settings\n"
        "from platform_resources.engines import duck\n"
        "con = duck.connect(Settings(home=Path(sys.argv[1])))\n"
        "print([one.sql(\"select current_setting('enable_progress_bar')\").fetchone()[0] for one in (con, con.cursor())])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=SOURCE_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[False, False]\n"


def test_a_result_without_a_declared_column_is_refused_though_it_is_optional(shop: Any, an_order: Any) -> None:
    shop.put("orders", an_order(1, "a"))
    text = HEADER + ROWS.replace("'n': [1]", "'number': [1]").replace("('n', pa", "('number', pa").replace("FAILS", "return")
    shop.totals(text, suffix="py", properties=NUMBERS)
    with pytest.raises(PlatformError) as caught:
        shop.derive()
    assert (caught.value.code, caught.value.line) == ("python-missing-column", 5)
    assert caught.value.message == "The contract has the column n, totals does not return it."
    assert caught.value.remedy == "Add it to the result, or take it from the contract."


def test_a_function_that_exits_fails_alone(shop: Any, an_order: Any) -> None:
    shop.put("orders", an_order(1, "a"))
    text = HEADER + "@data_product(inputs={'orders': 'shop/orders'})\ndef totals(orders: pa.Table) -> pa.Table:\n    raise SystemExit\n"
    shop.totals(text, suffix="py", properties=NUMBERS)
    with pytest.raises(PlatformError) as caught:
        shop.derive()
    assert (caught.value.code, caught.value.line, caught.value.message) == ("transform-failed", 6, "The transform failed: SystemExit.")


@pytest.fixture
def own_modules(shop: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The shop's folder as a package that transforms import from, read anew for each transform."""

    def forget() -> None:
        for name in [name for name in sys.modules if name.startswith(("data_products.shop", "data_products.measures"))]:
            del sys.modules[name]

    shop.forget_modules = forget
    monkeypatch.setattr(data_products, "__path__", [str(shop.domain.parent), *data_products.__path__])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a module rewritten within a second would be read from the cache
    (shop.domain / "__init__.py").write_text("")
    (shop.domain / "prices.py").write_text("from .units import CENT\nPRICE = CENT\n")
    (shop.domain / "units.py").write_text("CENT = 1\n")
    (shop.domain / "labels.py").write_text("LABEL = 1\n")
    (shop.domain.parent / "measures.py").write_text("ONE = 1\n")
    yield shop.domain
    forget()


IMPORTS = {
    "from data_products.shop.prices import PRICE": ["__init__.py", "prices.py", "units.py"],
    "from data_products.shop import prices": ["__init__.py", "prices.py", "units.py"],
    "import data_products.shop.units as units": ["__init__.py", "units.py"],
    "from data_products import measures": ["../measures.py"],
    "import json": [],
}


@pytest.mark.parametrize("line", IMPORTS)
def test_the_code_version_covers_the_projects_own_modules(shop: Any, own_modules: Path, line: str) -> None:
    def version() -> str:
        shop.forget_modules()
        return str(shop.derivation().transform.code_version)

    transform = HEADER + "@data_product(inputs={'orders': 'shop/orders'})\ndef totals(orders: pa.Table) -> pa.Table:\n    return orders\n"
    shop.totals(f"{line}\n{transform}", suffix="py", properties=NUMBERS)
    for name in ("__init__.py", "prices.py", "units.py", "labels.py", "../measures.py", "../__init__.py"):
        before, file = version(), own_modules / name
        text = file.read_text() if file.exists() else ""
        file.write_text(f"# a comment changes nothing\n{text}")
        assert version() == before
        file.write_text(f"{text}MORE = 1\n")
        assert (version() != before) == (name in IMPORTS[line]), name
        file.write_text(text)
        assert version() == before


def test_a_changed_module_recomputes(shop: Any, own_modules: Path, an_order: Any) -> None:
    text = HEADER + (
        "from data_products.shop.prices import PRICE\n"
        "@data_product(inputs={'orders': 'shop/orders'})\ndef totals(orders: duckdb.DuckDBPyRelation) -> duckdb.DuckDBPyRelation:\n"
        "    return orders.select(f'shop, {PRICE}::bigint as n')\n"
    )
    shop.put("orders", an_order(1, "a"))
    shop.totals(text, suffix="py", properties=NUMBERS)
    assert (shop.derive().plan, shop.derivation().is_behind(), shop.rows()) == ("full", False, [("a", 1)])
    (own_modules / "units.py").write_text("CENT = 2\n")
    shop.forget_modules()
    assert shop.derivation().is_behind()
    assert (shop.derive().reason, shop.rows()) == ("the transform or the contract changed", [("a", 2)])

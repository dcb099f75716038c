"""Programs to paste give a consumer who has only an engine the same rows, over each store and catalog; none holds a secret."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from platform_resources.cli.snippets import ENGINES, snippet
from platform_resources.config import Settings
from platform_resources.engines.spark import jdbc_address, spark_jars
from tests.engines import conftest as kit
from tests.lakehouse.stores import STORES, settings_over

ROWS = {
    "duckdb": "[(n, s, str(a)) for n, s, a in rows.select('order_id, shop, amount').fetchall()]",
    "polars": "[(r[0], r[1], str(r[2])) for r in rows.select('order_id', 'shop', 'amount').collect().rows()]",
    "pyiceberg": "[(r['order_id'], r['shop'], str(r['amount'])) for r in rows.to_arrow().to_pylist()]",
    "spark": "[(r.order_id, r.shop, str(r.amount)) for r in rows.collect()]",
}


def keys(settings: Settings) -> dict[str, str]:
    """What the program's reader has in their environment."""
    given = {"SDP_CATALOG_URI": settings.catalog_address, "SDP_CATALOG_ADDRESS": settings.catalog_address}
    if settings.catalog_type == "sql":
        given["SDP_CATALOG_ADDRESS"], given["PGUSER"], given["PGPASSWORD"] = jdbc_address(settings.catalog_address)
    store = settings.object_store
    if store is not None and store.access_key is not None and store.secret_key is not None:
        given |= {"AWS_ACCESS_KEY_ID": store.access_key.get_secret_value(), "AWS_SECRET_ACCESS_KEY": store.secret_key.get_secret_value()}
    return given


@pytest.mark.stack
@pytest.mark.parametrize("store", STORES)
def test_each_program_reads_the_same_rows_without_the_platform(
    store: str, tmp_path: Path, stack: Callable[..., Settings], requires: Callable[[str], None]
) -> None:
    requires("spark")
    settings = settings_over(store, tmp_path / "home", stack)
    shop: Any = kit.Shop(tmp_path / "project", settings)
    shop.put("orders", *(kit.order(number, "é" if number % 2 else None, f"{number}.50") for number in range(20)))
    shop.put("orders", kit.order(3, "changed"), delete=[3, 4])
    wanted = [(row[0], row[1], str(row[3])) for row in shop.rows("orders")]
    assert len(wanted) == 19 and (3, "changed", str(Decimal("1.00"))) in wanted
    libraries = sorted({sysconfig.get_paths()[name] for name in ("purelib", "platlib")})
    for engine in ENGINES:
        program = snippet(engine, shop.contract("orders"), settings)
        secrets = [value for name, value in keys(settings).items() if name in ("AWS_SECRET_ACCESS_KEY", "PGPASSWORD") and value]
        assert not [secret for secret in secrets if secret in program]
        jars = spark_jars(settings)  # what Maven would fetch in the consumer's session lies in the cache here
        program = re.sub(r'"spark.jars.packages", "[^"]*"', f'"spark.jars", "{jars}"', program)
        last = f"\nprint('rows:', {ROWS[engine]})\nimport sys\nassert not [n for n in sys.modules if n.startswith('platform_resources')]\n"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", f"import sys; sys.path += {libraries!r}\n{program}{last}"],
            cwd=tmp_path, env={**os.environ, **keys(settings), "SPARK_LOCAL_IP": "127.0.0.1"}, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{engine}: {done.stderr[-2000:]}"
        assert sorted(eval(done.stdout.rpartition("rows: ")[2]), key=repr) == sorted(wanted, key=repr), engine

"""Landings of files in a bucket into tables in a bucket (Swift, PostgreSQL's catalog), killed on the way: the same law as in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from platform_resources.config import Settings, load_settings
from platform_resources.contracts.model import Contract
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.landing import settled
from platform_resources.landing.landing import Landing
from tests.lakehouse.stores import environment, settings_over
from tests.landing.server_contracts import server_contract

pytestmark = pytest.mark.stack
POINTS = ("drain-after-epoch", "after-data-files", "landing-after-quarantine-commit", "before-commit@4", "after-commit@4", "after-commit@6")


def _contract() -> Contract:
    return server_contract("files", "name: id, logicalType: integer", "name: state, logicalType: string", path="*.csv")


def _land(settings: Settings) -> int:
    landing = Landing(_contract(), lakehouse=Lakehouse(settings), settings=settings, run_id=f"run-{uuid4()}")
    return landing.run().deliveries


def _killed(settings: Settings, drop: str, point: str) -> int:
    """The exit code of a landing in a process of its own."""
    given = {**os.environ, **environment(settings), "SDP_CONNECTIONS": f'{{"shop": "{drop}"}}', "SDP_FAILPOINTS": point}
    return subprocess.run([sys.executable, __file__], env={**given, "PYTHONPATH": str(Path.cwd())}, check=False, timeout=120).returncode


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_over_a_bucket_loses_and_doubles_nothing(
    tmp_path: Path, stack: Callable[..., Settings], point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_over("swift-postgresql", tmp_path / "home", stack)
    bucket, prefix = settings.warehouse_uri.removeprefix("s3://").split("/")[0], f"drop-{uuid4().hex[:8]}"
    drop = f"s3://{bucket}/{prefix}"
    settings = settings.model_copy(update={"connections": {"shop": SecretStr(drop)}})
    store = settings.object_store
    assert store is not None
    client = store.boto3()

    def put(name: str, text: str) -> None:
        client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=text.encode())

    put("a.csv", "id,state\n1,new\n2,new\nx,bad\n")
    put("b.csv", "id,state\n3,new\nx,bad\n")
    assert _killed(settings, drop, point) == -signal.SIGKILL
    monkeypatch.setattr(settled, "RECENT", 1)
    _land(settings)
    put("a.csv", "id,state\n1,paid\n")
    put("c.csv", "id,state\n4,new\n")
    settled._known.clear()
    assert (_land(settings), _land(settings)) == (2, 0)
    house = Lakehouse(settings)
    table, aside = house.table("shop.orders"), house.table("shop.orders__quarantine")
    assert table is not None
    assert aside is not None
    assert sorted((row["id"], row["state"], row["_file_name"]) for row in arrow_table(table).to_pylist()) == [
        (1, "paid", "a.csv"), (3, "new", "b.csv"), (4, "new", "c.csv"),
    ]  # fmt: skip
    assert [(row["_file_name"], row["_line"]) for row in arrow_table(aside).to_pylist()] == [("b.csv", 3)]


if __name__ == "__main__":
    _land(load_settings())

"""Maintenance between any writes changes nothing that a reader sees, and leaves every state that is kept readable."""

from __future__ import annotations

import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platform_resources.config import Settings
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.changes import changes_between
from platform_resources.lakehouse.compaction import compact
from platform_resources.lakehouse.expiry import expire_snapshots
from platform_resources.lakehouse.manifests import rewrite_manifests
from platform_resources.lakehouse.reading import duckdb_scan_sql, files_scan_sql
from platform_resources.lakehouse.staging import publish
from tests.lakehouse.tables import read, table_of
from tests.lakehouse.test_model import _OPERATIONS, Row, _apply, _by_polars, _definition, _evolve_spec, _plain, _stage
from tests.maintenance.tables import assert_whole

LATER = datetime.now(UTC) + timedelta(days=1)
_MAINTENANCE = st.one_of(
    st.tuples(st.just("compact"), st.booleans()),
    st.tuples(st.just("expire"), st.integers(1, 4)),
    st.tuples(st.just("manifests")),
)


def _maintain(lakehouse: Lakehouse, operation: tuple[Any, ...]) -> None:
    name = "shop.orders"
    if operation[0] == "compact":
        compact(lakehouse, name, run_id="m", now=LATER if operation[1] else datetime.now(UTC))
    elif operation[0] == "expire":
        expire_snapshots(lakehouse, name, keep=operation[1])
    else:
        rewrite_manifests(lakehouse, name, run_id="m")


_ROUNDS = st.lists(st.tuples(_OPERATIONS, _MAINTENANCE), min_size=1, max_size=3)
_SPECS = st.sampled_from(["no", "shop", "both"])
_Rounds: TypeAlias = list[tuple[list[tuple[Any, ...]], tuple[Any, ...]]]

pytestmark = pytest.mark.folder_only("a lakehouse for each example")


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(rounds=_ROUNDS, partitioned=_SPECS)
def test_any_maintenance_between_any_writes_changes_no_row(con: duckdb.DuckDBPyConnection, rounds: _Rounds, partitioned: str) -> None:
    _hold(con, rounds, partitioned)


@pytest.mark.storm
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(rounds=_ROUNDS, partitioned=_SPECS)
def test_the_same_for_many_examples(con: duckdb.DuckDBPyConnection, rounds: _Rounds, partitioned: str) -> None:
    _hold(con, rounds, partitioned)


def _hold(con: duckdb.DuckDBPyConnection, rounds: _Rounds, partitioned: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lakehouse, model, states = Lakehouse(Settings(home=Path(folder))), list[Row](), dict[int | None, Counter[Row]]()
        lakehouse.create(_definition(partitioned))
        for operations, maintenance in rounds:
            for number, drawn in enumerate(operations):
                if drawn[0] == "spec" and drawn[1] != partitioned:
                    partitioned = drawn[1]
                    _evolve_spec(table_of(lakehouse, _definition(partitioned)), partitioned)
                unfit = (drawn[0] == "overwrite-named" and partitioned != "shop") or (
                    drawn[0] == "overwrite-present" and partitioned == "no"
                )
                operation = ("overwrite-table", drawn[1]) if unfit else drawn
                model = _apply(model, operation, partitioned)
                commit = publish(_stage(lakehouse, partitioned, operation, f"r{number}"))
                states[commit.snapshot_id] = Counter(model)
                assert commit.table_rows == len(model)
            _maintain(lakehouse, maintenance)
            table = table_of(lakehouse, _definition(partitioned))
            states[table.metadata.current_snapshot_id] = Counter(model)
            assert_whole(table)
            for found in (read(table), _by_polars(table), con.sql(f"SELECT * FROM {duckdb_scan_sql(table)}").fetchall()):
                assert _plain(found) == Counter(model)
        for snapshot in table.metadata.snapshots:
            if snapshot.snapshot_id not in states:
                continue
            before = states[snapshot.snapshot_id]
            past = con.sql(f"SELECT * FROM {duckdb_scan_sql(table, snapshot.snapshot_id)}").fetchall()
            assert _plain(past) == before
            changes = changes_between(table, snapshot.snapshot_id)
            added, removed = (
                _plain(con.sql(f"SELECT * FROM {files_scan_sql(table, parts)}").fetchall()) for parts in (changes.added, changes.removed)
            )
            assert changes.kind != "recompute" and before + added == Counter(model) + removed

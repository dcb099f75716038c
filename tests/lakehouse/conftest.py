"""Fixtures of the lakehouse suite: a lakehouse of its own over each store, and a DuckDB session that reads it.

Every test runs over a folder with SQLite; over Swift with PostgreSQL and with a REST catalog under the marker `stack`. A test that looks
at what only a folder has says so: `@pytest.mark.folder_only("why")`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from platform_resources.config import Settings
from platform_resources.engines.duck import connect
from platform_resources.lakehouse.catalog import Lakehouse
from tests.lakehouse.stores import STORES, settings_over


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store" in metafunc.fixturenames and not any("store" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")):
        only = metafunc.definition.get_closest_marker("folder_only")
        names = ["folder"] if only else list(STORES)
        metafunc.parametrize("store", [pytest.param(name, marks=[pytest.mark.stack] if STORES[name] else []) for name in names])


@pytest.fixture
def settings(store: str, tmp_path: Path, stack: Callable[..., Settings]) -> Settings:
    """A home of its own, with its tables in the store."""
    return settings_over(store, tmp_path / "home", stack)


@pytest.fixture
def lakehouse(settings: Settings) -> Lakehouse:
    return Lakehouse(settings)


@pytest.fixture(scope="session")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, duckdb.DuckDBPyConnection]]:
    """DuckDB sessions by store."""
    found: dict[str, duckdb.DuckDBPyConnection] = {}
    yield found
    for session in found.values():
        session.close()


@pytest.fixture
def con(
    store: str, settings: Settings, sessions: dict[str, duckdb.DuckDBPyConnection], stack: Callable[..., Settings]
) -> duckdb.DuckDBPyConnection:
    if store not in sessions:
        home = settings.home.parent / "duckdb"
        sessions[store] = connect(stack(*STORES[store]) if STORES[store] else Settings(home=home))
    return sessions[store]

"""Fixtures of the lakehouse suite: a lakehouse of its own, and a DuckDB session that reads it."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from platform_resources.config import Settings
from platform_resources.engines.duck import connect
from platform_resources.lakehouse.catalog import Lakehouse


@pytest.fixture
def lakehouse(settings: Settings) -> Lakehouse:
    return Lakehouse(settings)


@pytest.fixture(scope="session")
def con(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    session = connect(Settings(home=tmp_path_factory.mktemp("duckdb")))
    yield session
    session.close()

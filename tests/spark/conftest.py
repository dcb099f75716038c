"""One Spark for the session, small and local, and what the suites share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from platform_resources.config import Settings
from platform_resources.engines.spark import Spark


@pytest.fixture(scope="session")
def spark(requires: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Spark:
    """Spark over an empty lakehouse; the first use in a process starts the JVM, later lakehouses take part in it."""
    requires("spark")
    home = tmp_path_factory.mktemp("spark")
    # few rows: compiling a plan takes longer than interpreting it; the suite over a cluster compiles
    quick = {"spark.log.level": "ERROR", "spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
    return Spark(Settings(home=home, spark_master="local[2]", spark_shuffle_partitions=1, spark_conf=quick))

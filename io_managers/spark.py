"""Spark in Dagster: the session of dagster-pyspark's `PySparkResource`, from the platform's one configuration.

What that configuration is stands in `platform_resources.engines.spark`; importing this module imports no Spark.
"""

from __future__ import annotations

from typing import Any

from platform_resources.config import Settings
from platform_resources.engines.spark import Spark, launch_conf

SPARK = "spark"


class SparkResource:
    """Gives runs Spark; a run that does not use it starts none.

    Args:
        settings: the lakehouse and the cluster.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = Spark(settings, self._session)
        self._resource: Any = None

    def _session(self) -> Any:
        if self._resource is None:
            from dagster_pyspark import LazyPySparkResource

            self._resource = LazyPySparkResource(spark_config=launch_conf(self.settings))
        return self._resource.spark_session

"""A Spark cluster on one machine: a standalone master and two workers as processes of their own, on loopback.

It is there so that nothing comes to depend on Spark's local mode: executors have their own memory, class path and disk.
"""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.stack.group import grouped
from platform_resources.stack.maven import SPARK_NEWEST_JAVA, fetch_jars, require_java
from platform_resources.stack.service import Service

POM = Path(__file__).with_name("spark.pom.xml")
WORKERS, WORKER_CORES, WORKER_MEMORY = 2, 1, "2g"
_MODULES = ("java.lang", "java.lang.invoke", "java.net", "java.nio", "java.util", "java.util.concurrent", "java.util.concurrent.atomic")


class SparkCluster(Service):
    """A master and its workers; each worker offers one core and 2 GB. Spark itself is that of the installed pyspark."""

    name = "spark"
    start_seconds = 180.0  # three JVMs on a busy machine
    port_names = ("port", "ui_port", "worker_port_1", "worker_port_2", "worker_ui_port_1", "worker_ui_port_2")

    def install(self, settings: Settings) -> None:
        """Fetch what Spark reads Iceberg with, by Maven, once.

        Raises:
            PlatformError: `java-missing`, `java-unfit`, `pyspark-missing`, `maven-missing` or `stack-install-failed`.
        """
        require_java("Spark", newest=SPARK_NEWEST_JAVA)
        _spark_home()
        fetch_jars(settings, POM, "Spark's access to Iceberg", "sdp stack up spark")

    def prepare(self, folder: Path, ports: Mapping[str, int], settings: Settings) -> list[str]:
        """The master and the workers; what executors leave behind at a kill is cleared at the next start."""
        shutil.rmtree(folder / "work", ignore_errors=True)
        package = "org.apache.spark.deploy"
        here = ["--host", "127.0.0.1"]
        commands = [
            [*_java(), f"{package}.master.Master", *here, "--port", str(ports["port"]), "--webui-port", str(ports["ui_port"])],
        ]
        for number in range(1, WORKERS + 1):
            places = ["--port", str(ports[f"worker_port_{number}"]), "--webui-port", str(ports[f"worker_ui_port_{number}"])]
            size = ["--cores", str(WORKER_CORES), "--memory", WORKER_MEMORY, "--work-dir", str(folder / "work" / str(number))]
            commands.append([*_java(), f"{package}.worker.Worker", *here, *places, *size, f"spark://127.0.0.1:{ports['port']}"])
        return grouped(commands)

    def ready(self, ports: Mapping[str, int]) -> bool:
        """Whether the master knows all workers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports['ui_port']}/json/", timeout=1) as page:
                return int(json.load(page)["aliveworkers"]) == WORKERS
        except (OSError, ValueError, KeyError):
            return False

    def address(self, ports: Mapping[str, int]) -> str:
        """The master's address."""
        return f"spark://127.0.0.1:{ports['port']}"

    def to_use(self, settings: Settings, address: str) -> list[str]:
        """The setting under which transforms run on this cluster."""
        return [] if settings.spark_master == address else [f"export SDP_SPARK_MASTER={address}"]


def _spark_home() -> Path:
    spec = find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise PlatformError("pyspark-missing", "Spark comes with the package pyspark, which is not installed.", "Run `make install`.")
    return Path(spec.origin).parent


def _java() -> list[str]:
    opened = [f"--add-opens=java.base/{module}=ALL-UNNAMED" for module in _MODULES]
    jars = _spark_home() / "jars" / "*"
    heap = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData"]
    # what Spark's own scripts would set: a worker starts its executors from it. --host is for the servers; their web pages ask
    # SPARK_LOCAL_IP, and listen on every address without it.
    environment = ["env", f"SPARK_HOME={_spark_home()}", "SPARK_SCALA_VERSION=2.13", "SPARK_LOCAL_IP=127.0.0.1"]
    return [*environment, "java", *heap, "-Djava.net.preferIPv4Stack=true", *opened, "-cp", str(jars)]

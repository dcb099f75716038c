"""Apache Kafka on one machine: a single KRaft broker from Maven's artifacts, on loopback, keeping its log for ever."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.stack.maven import fetch_jars, jar_folder, require_java
from platform_resources.stack.service import Service

_POM = Path(__file__).with_name("kafka.pom.xml")
_PROPERTIES = Path(__file__).with_name("kafka.properties")
_CLUSTER_ID = "bG9jYWwta2Fma2EtMDAwMQ"  # any 16 bytes in URL-safe base64 without padding, not starting with a dash
_TITLE = "Apache Kafka"


class Kafka(Service):
    """The broker. Its jars (45 MB) lie in the cache, shared by all homes; configuration, data and log lie in the home."""

    name = "kafka"
    port_names = ("port", "controller_port")

    def jars(self, settings: Settings) -> Path:
        """The folder of the jars, named by what is in it."""
        return jar_folder(settings, _POM)

    def install(self, settings: Settings) -> None:
        """Fetch the jars by Maven, once.

        Raises:
            PlatformError: `java-missing`, `maven-missing` or `stack-install-failed`.
        """
        require_java(_TITLE)
        fetch_jars(settings, _POM, _TITLE, "sdp stack up kafka")

    def prepare(self, folder: Path, ports: Mapping[str, int], settings: Settings) -> list[str]:
        """Write the broker's configuration, format its storage at the first start."""
        data, config = folder / "data", folder / "server.properties"
        text = _PROPERTIES.read_text(encoding="utf-8").replace("@data@", str(data))
        for name, port in ports.items():
            text = text.replace(f"@{name}@", str(port))
        config.write_text(text, encoding="utf-8")
        if not (data / "meta.properties").exists():
            made = subprocess.run(
                self._java(settings, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(config)),
                capture_output=True,
                text=True,
                check=False,
            )
            if made.returncode != 0:
                (folder / "server.log").write_text(made.stdout + made.stderr, encoding="utf-8")
                raise PlatformError(
                    "stack-start-failed", f"Kafka could not format {data}.", f"Its last words are in {folder / 'server.log'}."
                )
        return self._java(settings, "kafka.Kafka", str(config))

    def to_use(self, settings: Settings, address: str) -> list[str]:
        """The settings under which the event log is this broker.

        A home whose local log has events gets another home advised: positions in its tables count the events of that log, and the
        same numbers mean others, or none, in Kafka.
        """
        lines = ["unset SDP_EVENT_LOG"] if settings.event_log == "local" else []
        if settings.profile == "embedded" and settings.event_log != "kafka":
            lines.append("export SDP_PROFILE=stack")
        if settings.kafka_bootstrap not in (None, address):
            lines.append("unset SDP_KAFKA_BOOTSTRAP")
        if settings.log_kind == "local" and settings.log_path.is_dir() and any(settings.log_path.iterdir()):
            other = f"export SDP_HOME={shlex.quote(f'{settings.home}-stack')}  # tables here count the events of the local log"
            lines += [f"sdp stack down {self.name}", other, f"sdp stack up {self.name}"]
        return lines

    def _java(self, settings: Settings, *arguments: str) -> list[str]:
        return [
            "java",
            "-Xmx256m",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            "-XX:TieredStopAtLevel=1",
            "-Djava.net.preferIPv4Stack=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-cp",
            str(self.jars(settings) / "*"),
            *arguments,
        ]


def running_bootstrap(settings: Settings) -> str | None:
    """Bootstrap address of the broker that this home's stack runs now, or None."""
    return Kafka().status(settings).address

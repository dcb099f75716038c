"""Which servers `sdp stack` knows. A new one is one more module with a `Service` and one more name here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.stack.iceberg_rest import IcebergRest
from platform_resources.stack.kafka import Kafka
from platform_resources.stack.mariadb import MariaDB
from platform_resources.stack.postgresql import PostgreSQL
from platform_resources.stack.service import Service
from platform_resources.stack.spark import SparkCluster
from platform_resources.stack.swift import Swift

SERVICES: Mapping[str, Service] = {
    service.name: service for service in (Kafka(), PostgreSQL(), MariaDB(), Swift(), IcebergRest(), SparkCluster())
}
PROFILE = ("kafka", "postgresql", "swift")  # what SDP_PROFILE=stack needs by default


def service(name: str) -> Service:
    """The server of that name.

    Raises:
        PlatformError: `service-unknown`.
    """
    found = SERVICES.get(name)
    if found is None:
        raise PlatformError("service-unknown", f"The stack has no server {name}.", f"Name one of: {', '.join(sorted(SERVICES))}.")
    return found


def in_order(names: Iterable[str]) -> list[Service]:
    """The servers of those names and the ones they need, each after what it needs.

    Raises:
        PlatformError: `service-unknown`.
    """
    found: dict[str, Service] = {}

    def add(name: str) -> None:
        one = service(name)
        for needed in one.needs:
            add(needed)
        found.setdefault(name, one)

    for name in names:
        add(name)
    return list(found.values())


def start(settings: Settings, names: Iterable[str] = PROFILE, *, die_with_parent: bool = False) -> Settings:
    """Start servers of a home with what they need, and give the settings under which everything uses them.

    Raises:
        PlatformError: `service-unknown`, `stack-start-failed`, or what a missing prerequisite is told by.
    """
    for one in in_order(names):
        one.up(settings, die_with_parent=die_with_parent)
    return settings.model_copy(update={"profile": "stack"})


def stop(settings: Settings, names: Iterable[str] = tuple(SERVICES)) -> None:
    """Stop servers of a home, each before what it needs."""
    for one in reversed(in_order(names)):
        one.down(settings)

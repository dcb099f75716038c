"""Which servers `sdp stack` knows. A new one is one more module with a `Service` and one more name here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.stack.iceberg_rest import IcebergRest
from platform_resources.stack.kafka import Kafka
from platform_resources.stack.mariadb import MariaDB
from platform_resources.stack.postgresql import PostgreSQL
from platform_resources.stack.service import Service, give_to
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


def require_running(settings: Settings, names: Iterable[str]) -> None:
    """Refuse at once when a server of this home was started once and is stopped now: a client would try for a quarter of a minute.

    Raises:
        PlatformError: `stack-stopped`, naming all of them.
    """
    states = {name: service(name).state(settings) for name in names}
    stopped = [name for name, state in states.items() if state is not None and not state.running]
    if stopped:
        told = f"The servers {' and '.join(stopped)}" if len(stopped) > 1 else f"The server {stopped[0]}"
        raise PlatformError(
            "stack-stopped",
            f"{told} of the stack in {settings.home} {'are' if len(stopped) > 1 else 'is'} stopped.",
            f"Start what is needed with `sdp stack up {' '.join(stopped)}`.",
        )


def of_tables(settings: Settings) -> list[str]:
    """The servers of this home that keep its tables, by these settings."""
    if settings.profile != "stack":
        return []
    catalog = [] if settings.catalog_uri else ["iceberg-rest", "postgresql"] if settings.catalog_type == "rest" else ["postgresql"]
    return catalog + (["swift"] if settings.warehouse is None and settings.s3_endpoint is None else [])


def make_startable(one: Service, settings: Settings) -> None:
    """Bring what a server needs, and see that its account can enter the home, before any other is started in vain.

    Raises:
        PlatformError: `home-unreachable`, or what a missing prerequisite is told by.
    """
    if one.status(settings).running:
        return
    one.install(settings)
    if (account := one.account()) is not None:
        one.folder(settings).mkdir(parents=True, exist_ok=True)
        probe = Path(tempfile.mkdtemp(prefix=".probe-", dir=one.folder(settings)))
        give_to(account, probe, server=type(one).__name__)
        probe.rmdir()


def start(settings: Settings, names: Iterable[str] = PROFILE, *, die_with_parent: bool = False) -> Settings:
    """Start servers of a home with what they need, and give the settings under which everything uses them.

    Raises:
        PlatformError: `service-unknown`, `stack-start-failed`, or what a missing prerequisite is told by.
    """
    wanted = in_order(names)
    for one in wanted:
        make_startable(one, settings)
    for one in wanted:
        one.up(settings, die_with_parent=die_with_parent)
    return settings.model_copy(update={"profile": "stack"})


def stop(settings: Settings, names: Iterable[str] = tuple(SERVICES)) -> None:
    """Stop servers of a home, each before what it needs."""
    for one in reversed(in_order(names)):
        one.down(settings)

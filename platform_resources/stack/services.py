"""Which servers `sdp stack` knows. A new one is one more module with a `Service` and one more name here."""

from __future__ import annotations

from collections.abc import Mapping

from platform_resources.errors import PlatformError
from platform_resources.stack.kafka import Kafka
from platform_resources.stack.service import Service

SERVICES: Mapping[str, Service] = {service.name: service for service in (Kafka(),)}


def service(name: str) -> Service:
    """The server of that name.

    Raises:
        PlatformError: `service-unknown`.
    """
    found = SERVICES.get(name)
    if found is None:
        raise PlatformError("service-unknown", f"The stack has no server {name}.", f"Name one of: {', '.join(sorted(SERVICES))}.")
    return found

"""One mail per incident."""

from __future__ import annotations

import dagster as dg

from platform_resources.contracts.registry import Registry


def alert_sensor(domain: str, registry: Registry) -> dg.SensorDefinition:
    """The sensor that tells a domain's owners what failed."""
    raise NotImplementedError

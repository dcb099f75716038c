"""A domain team's contracts and transforms become one Dagster code location. The only place where all layers meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from platform_resources.config import Settings


def domain_definitions(package: str, *, settings: Settings | None = None, overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The code location of the domain whose package is `package` (its last part is the domain's name)."""
    raise NotImplementedError

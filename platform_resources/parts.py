"""The parts one platform instance is made of, each created on first use, so that loading a location touches no service.

Tests and tools swap a part by giving it; nobody has to patch a module.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

from platform_resources.config import Settings

if TYPE_CHECKING:
    from platform_resources.contracts.registry import Registry
    from platform_resources.lakehouse.catalog import Lakehouse
    from platform_resources.streams.log import EventLog


class Parts:
    """Settings, registry, lakehouse and event log of one instance.

    Args:
        settings: the configuration in force.
        registry, lakehouse, log: given instead of the ones the settings describe.
    """

    def __init__(
        self, settings: Settings, *, registry: Registry | None = None, lakehouse: Lakehouse | None = None, log: EventLog | None = None
    ) -> None:
        self.settings = settings
        self._registry, self._lakehouse, self._log = registry, lakehouse, log
        self._of_thread = threading.local()

    @cached_property
    def registry(self) -> Registry:
        """Every contract of the project, read once."""
        from platform_resources.contracts.registry import Registry

        return self._registry or Registry.load(self.settings.project)

    @cached_property
    def lakehouse(self) -> Lakehouse:
        """The catalog and its tables."""
        from platform_resources.lakehouse.catalog import Lakehouse

        return self._lakehouse or Lakehouse(self.settings)

    @property
    def log(self) -> EventLog:
        """The event log; one for each thread, since a log belongs to one (a code server ticks its sensors on several)."""
        if self._log is not None:
            return self._log
        log: EventLog | None = getattr(self._of_thread, "log", None)
        if log is None:
            from platform_resources.streams.log import open_log

            log = self._of_thread.log = open_log(self.settings)
        return log

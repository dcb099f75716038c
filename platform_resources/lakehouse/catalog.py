"""The catalog of this platform instance: which tables exist, creating and dropping them. Rows are written in `staging`."""

from __future__ import annotations

from pyiceberg.table import Table

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import TableDefinition


class Lakehouse:
    """Tables of one platform instance, by the identifier `domain.product`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def table(self, identifier: str) -> Table | None:
        """The table at its newest metadata, None when it does not exist."""
        raise NotImplementedError

    def create(self, definition: TableDefinition) -> Table:
        """Namespace, table and an empty first snapshot; the existing table if another created it."""
        raise NotImplementedError

    def identifiers(self) -> list[str]:
        """Every table's identifier, sorted."""
        raise NotImplementedError

    def drop(self, identifier: str) -> None:
        """Drop the table and delete its files; nothing happens when it does not exist."""
        raise NotImplementedError

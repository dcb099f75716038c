"""The source that a contract's kind stands for. The kinds' clients are imported only where one is opened."""

from __future__ import annotations

from platform_resources.config import Settings
from platform_resources.contracts.model import Contract
from platform_resources.contracts.sources import FILE_KINDS
from platform_resources.errors import PlatformError
from platform_resources.landing.source import Source


def open_source(contract: Contract, settings: Settings, *, looking: bool = False) -> Source:
    """Where a landed product's deliveries come from; `looking`: they are only counted, so no big file is read, no busy API waited for.

    Raises:
        PlatformError: `not-landed` of a stream or derived product; `connection-unknown`.
    """
    kind = contract.source.kind if contract.source is not None else None
    if kind in FILE_KINDS:
        from platform_resources.landing.files import FileSource

        return FileSource(contract, settings, looking=looking)
    if kind == "database":
        from platform_resources.landing.database import DatabaseSource

        return DatabaseSource(contract, settings)
    if kind == "http":
        from platform_resources.landing.http import HttpSource

        return HttpSource(contract, settings, looking=looking)
    raise PlatformError(
        "not-landed",
        f"{contract.key} does not come from files, dumps, a database or an API, so there is nothing to land.",
        f"Use `sdp run {contract.key}`.",
        file=contract.path,
    )

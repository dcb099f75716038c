"""Where a connection leads to in this profile. An address may hold a secret: it is for a client, never for a text."""

from __future__ import annotations

from platform_resources.config import Settings
from platform_resources.contracts.model import Contract
from platform_resources.contracts.sources import FILE_KINDS
from platform_resources.errors import PlatformError


def connection_name(contract: Contract) -> str:
    """The connection of a landed product: the contract's, else its domain's name."""
    return (contract.source.connection if contract.source is not None else None) or contract.domain


def address_of(contract: Contract, settings: Settings) -> str:
    """The URI of a landed product's connection, no trailing slash; of files and dumps, where the profile has none, the drop folder's.

    Raises:
        PlatformError: `connection-unknown`.
    """
    name = connection_name(contract)
    found = settings.connection(name)
    if found is not None:
        return found
    if contract.source is not None and contract.source.kind in FILE_KINDS:
        return f"file://{settings.drop_path / name}"
    raise PlatformError(
        "connection-unknown",
        f"The profile has no connection {name}, which {contract.key} comes from.",
        f'Set SDP_CONNECTIONS, a JSON object with an entry "{name}" (e.g. postgresql://user:password@host/database).',
        file=contract.path,
        line=contract.source.line if contract.source is not None else 0,
    )

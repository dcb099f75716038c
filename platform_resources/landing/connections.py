"""Where a connection leads to in this profile. An address may hold a secret: it is for a client, never for a text."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

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


def split_address(address: str, connection: str) -> SplitResult:
    """The parts of a server's address, its port readable and its secret where a secret stands.

    A password with a character that means something else there would be taken for a host, a port or a path, and be shown as such.

    Raises:
        PlatformError: `connection-unfit`, without a word of the address.
    """
    parts = urlsplit(address)
    try:
        fit = parts.netloc.count("@") <= 1 and (parts.port or 1) > 0
    except ValueError:
        fit = False
    if not parts.scheme.startswith("http"):
        fit = fit and "@" not in f"{parts.path}{parts.query}{parts.fragment}"
    if fit:
        return parts
    raise PlatformError(
        "connection-unfit",
        f"The address of the connection {connection} has no readable host and port.",
        "Mend it in SDP_CONNECTIONS: in a user name or password @ is written %40, / %2F, # %23, ? %3F, : %3A and % %25.",
    )

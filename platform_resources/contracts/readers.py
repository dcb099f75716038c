"""Who may read a product: its own domain, and whom its contract's `roles` name. One question, asked wherever rows are read.

It guards against mistakes, not against malice: whoever reaches the warehouse reads its files. Grants of the storage are not made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from platform_resources.contracts.model import Contract
from platform_resources.errors import PlatformError


def declared_readers(document: Mapping[str, Any], domain: str) -> tuple[str, ...] | None:
    """The domains that a contract lets read, its own first; None where it has no `roles`, so that everybody may.

    A role whose `access` is told and says nothing of reading (`write`) may not read.
    """
    if "roles" not in document:
        return None
    roles = [role for role in document["roles"] or () if "read" in str(role.get("access") or "read").lower()]
    return tuple(dict.fromkeys((domain, *(str(role["role"]) for role in roles))))


def refusal_of(contract: Contract, reader: str | None) -> PlatformError | None:
    """Why a reader may not have the rows of a product, None where it may.

    Args:
        contract: the product that is to be read.
        reader: the domain that reads; None when nobody said which.
    """
    readers = contract.readers
    if readers is None or reader in readers:
        return None
    said = f"{contract.key} may be read by {' and '.join(readers)} only"
    if not reader:
        remedy = "Set SDP_DOMAIN, or name the domain: --as DOMAIN, source(..., reader=DOMAIN)."
        return PlatformError("reader-untold", f"{said}, and nobody said who reads.", remedy)
    return PlatformError(
        "reader-refused",
        f"{said}, not by {reader}.",
        f"Read what they make of it, or ask {', '.join(contract.owners)} for a role in its contract.",
    )


def require_reader(contract: Contract, reader: str | None) -> None:
    """Let pass who may read.

    Raises:
        PlatformError: `reader-refused`, `reader-untold`.
    """
    refused = refusal_of(contract, reader)
    if refused is not None:
        raise refused

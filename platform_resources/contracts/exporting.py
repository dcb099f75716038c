"""A contract for readers outside the platform: ODCS as its team wrote it, whole, with the servers of this instance.

What the domain says once for all its products (support, who answers) is written out, and in place of the servers that name a
connection stand the standard's own, which other tools understand. Where things really are is the caller's to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from platform_resources.contracts.model import Contract
from platform_resources.contracts.yaml_source import parse


def exported(contract: Contract, servers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The contract as an ODCS 3.2 document, keys in the order of the file.

    Args:
        contract: one that was read without errors; its file is read again.
        servers: entries of the standard's `servers`, without secrets.
    """
    document = dict(parse(contract.path.read_text("utf-8")).document)
    implied = {
        "domain": contract.domain,
        "servers": [dict(server) for server in servers],
        "support": [
            {name: value for name in ("channel", "tool", "url", "scope") if (value := getattr(support, name))}
            for support in contract.support
        ],
    }
    return {**document, **{name: value for name, value in implied.items() if value and (name == "servers" or name not in document)}}

"""The current view of a product with slices or a validity, `domain.product__current`: its newest slice, or the rows that hold now.

In a query the name is written out as what it stands for, so that lineage, incremental computation and every engine see the product itself.
"""

# ruff: noqa: S608 - SQL is put together here from quoted names
from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.engines.types import quote
from platform_resources.errors import PlatformError

CURRENT = "__current"


def current_sql(contract: Contract, relation: str) -> str:
    """The rows of a relation that are current, as a condition on it: `_valid_to` is null, or `_slice` is the newest that has rows.

    Raises:
        PlatformError: `no-current-view`.
    """
    if contract.validity:
        return "_valid_to IS NULL"
    if contract.slices is None:
        raise PlatformError(
            "no-current-view",
            f"{contract.key} has neither slices nor a validity, so all of it is current.",
            f"Read {contract.identifier}.",
            file=contract.path,
        )
    return f"_slice = (SELECT max(_slice) FROM {relation})"


def expanded(text: str, tables: Sequence[exp.Table], registry: Registry) -> str:
    """A query with each `domain.product__current` written out, in the same lines.

    Args:
        text: the query.
        tables: its tables, with their places in the text.
        registry: the contracts.

    Raises:
        PlatformError: `no-current-view`.
    """
    places: list[tuple[int, int, str]] = []
    for table in tables:
        key = f"{table.db}/{table.name.removesuffix(CURRENT)}"
        if not table.name.endswith(CURRENT) or key not in registry.contracts:
            continue
        product = f"{quote(table.db)}.{quote(table.name.removesuffix(CURRENT))}"
        name = "" if table.alias else f" AS {quote(table.name)}"
        view = f"(SELECT * FROM {product} WHERE {current_sql(registry.contracts[key], product)}){name}"
        places.append((table.args["db"].meta["start"], table.this.meta["end"] + 1, view))
    for start, end, view in sorted(places, reverse=True):
        text = text[:start] + view + text[end:]
    return text

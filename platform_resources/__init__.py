"""What the platform gives to domain teams: `from platform_resources import data_product, source`.

Both names load on first use, so that importing a module of the platform does not import the engines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from platform_resources.engines.python import data_product as data_product
    from platform_resources.sourcing import source as source

__all__ = ["data_product", "source"]


def __getattr__(name: str) -> Any:
    if name == "data_product":
        from platform_resources.engines.python import data_product

        return data_product
    if name == "source":
        from platform_resources.sourcing import source

        return source
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""A contract of a table or an API from its columns alone, read as any other contract is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from platform_resources.contracts.model import Contract, Domain
from platform_resources.contracts.reading import read_contract


def server_contract(kind: str, *properties: str, product: dict[str, Any] | None = None, **server: Any) -> Contract:
    """The contract of `shop.orders`, whose columns are YAML flow mappings without braces: `name: id, logicalType: integer`.

    `product` and `server` are the custom properties of the product's table and of its server.
    """

    def custom(values: dict[str, Any], indent: str) -> str:
        return "".join(f"\n{indent}- {{property: {name}, value: {json.dumps(value)}}}" for name, value in values.items())

    columns = "".join(f"\n      - {{{one}}}" for one in properties)
    text = f"""\
apiVersion: v3.2.0
kind: DataContract
id: shop.orders
version: 1.0.0
status: draft
description: {{purpose: What was ordered.}}
servers:
  - server: shop
    type: custom
    customProperties:{custom({"source": kind, "connection": "shop", **server}, "      ")}
schema:
  - name: orders
    logicalType: object
    {"customProperties:" + custom(product, "      ") if product else ""}
    properties:{columns}
"""
    domain = Domain("shop", Path("/shop"), title="Shop", owners=("team:shop",))
    contract, problems = read_contract(Path("/shop/orders.yaml"), domain=domain, project=Path("/"), text=text)
    assert contract is not None, [str(problem) for problem in problems]
    return contract

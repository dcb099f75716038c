"""A contract of a dump from its columns alone, read as any other contract is."""

from __future__ import annotations

from pathlib import Path

from platform_resources.contracts.model import Contract, Domain
from platform_resources.contracts.reading import read_contract
from platform_resources.landing.source import Delivery

DELIVERY = Delivery("wiki.dump", "0" * 16)


def dump_contract(kind: str, *properties: str, **server: str) -> Contract:
    """The contract of `wiki.dump`, whose columns are YAML flow mappings without braces: `name: page_id, logicalType: integer`."""
    custom = "".join(
        f"\n      - {{property: {name}, value: {value}}}" for name, value in {"source": kind, "path": "dumps", **server}.items()
    )
    columns = "".join(f"\n      - {{{one}}}" for one in properties)
    text = f"""\
apiVersion: v3.2.0
kind: DataContract
id: wiki.dump
version: 1.0.0
status: draft
description: {{purpose: What a dump holds.}}
servers:
  - server: dumps
    type: custom
    customProperties:{custom}
schema:
  - name: dump
    logicalType: object
    properties:{columns}
"""
    domain = Domain("wiki", Path("/wiki"), title="Wiki", owners=("team:wiki",))
    contract, problems = read_contract(Path("/wiki/dump.yaml"), domain=domain, project=Path("/"), text=text)
    assert contract is not None, [str(problem) for problem in problems]
    return contract

"""A project in a temporary folder: write domains and contracts, read them back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from platform_resources.contracts.model import Contract, Domain
from platform_resources.contracts.reading import read_contract
from platform_resources.errors import Problem

STREAM = """\
apiVersion: v3.2.0
kind: DataContract
id: shop.orders
version: 1.0.0
status: active
description: {purpose: Orders as they are placed.}
servers:
  - server: events
    type: custom
    customProperties:
      - {property: source, value: stream}
      - {property: stream, value: shop.orders.v1}
schema:
  - name: orders
    logicalType: object
    properties:
      - {name: _schema, logicalType: string, required: true, description: Event schema.}
      - name: meta
        logicalType: object
        required: true
        description: Envelope.
        properties:
          - {name: id, logicalType: string, description: Event id.}
          - {name: dt, logicalType: timestamp, description: Acceptance time.}
          - {name: stream, logicalType: string, required: true, description: Stream.}
      - {name: order_id, logicalType: integer, required: true, description: Number of the order.}
      - {name: tags, logicalType: array, description: Labels., items: {logicalType: string, required: true}}
"""

TABLE = """\
apiVersion: v3.2.0
kind: DataContract
id: shop.sales
version: 1.2.0
status: active
description: {purpose: Sales per shop and day.}
schema:
  - name: sales
    logicalType: object
    properties:
      - {name: day, logicalType: date, required: true, primaryKey: true, primaryKeyPosition: 2, partitioned: true, description: Day.}
      - {name: shop, logicalType: string, required: true, primaryKey: true, primaryKeyPosition: 1, description: Shop.}
      - {name: amount, logicalType: number, physicalType: "decimal(18,2)", description: Money taken.}
    quality:
      - {name: some_rows, metric: rowCount, mustBeGreaterThan: 0}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the domain `shop` and no product."""
    folder = tmp_path / "data_products" / "shop"
    folder.mkdir(parents=True)
    (folder / "domain.yaml").write_text("name: shop\ntitle: Shop\nowners: [team:shop]\n")
    return tmp_path


@pytest.fixture
def domain(project: Path) -> Domain:
    return Domain("shop", project / "data_products" / "shop", title="Shop", owners=("team:shop",))


Read = Callable[..., tuple[Contract | None, list[Problem]]]


@pytest.fixture
def read(project: Path, domain: Domain) -> Read:
    """Read a contract from text or a document; the product's name is its id's last part."""

    def reader(content: str | dict[str, Any], name: str | None = None) -> tuple[Contract | None, list[Problem]]:
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        stem = name or str((yaml.safe_load(text) or {}).get("id", "shop.broken")).rsplit(".", maxsplit=1)[-1]
        return read_contract(domain.path / f"{stem}.yaml", domain=domain, project=project, text=text)

    return reader


@pytest.fixture
def stream() -> dict[str, Any]:
    """A sound stream contract's document, to be changed."""
    return copy.deepcopy(yaml.safe_load(STREAM))


@pytest.fixture
def table() -> dict[str, Any]:
    """A sound derived contract's document, to be changed."""
    return copy.deepcopy(yaml.safe_load(TABLE))


def sound(result: tuple[Contract | None, list[Problem]]) -> Contract:
    """The contract of a reading that must be without errors."""
    contract, problems = result
    assert contract is not None, [str(problem) for problem in problems]
    return contract

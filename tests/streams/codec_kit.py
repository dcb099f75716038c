"""What the tests of gate and codec share: a contract with a column of every kind, events for it, and their other spellings."""

from __future__ import annotations

import base64
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from hypothesis import strategies as st

from platform_resources.contracts.model import Column, Contract
from platform_resources.contracts.registry import Registry

HEAD = """\
apiVersion: v3.2.0
kind: DataContract
id: lab.{name}
version: 1.2.0
status: draft
description: {{purpose: A column of every kind.}}
servers:
  - server: events
    type: custom
    customProperties:
      - {{property: source, value: stream}}
      - {{property: stream, value: lab.{name}.v1}}
      - {{property: schemaTitle, value: lab/{name}}}
schema:
  - name: {name}
    logicalType: object
    customProperties:
      - {{property: maxEventBytes, value: 20000}}
      - {{property: additionalProperties, value: {open}}}
    properties:
      - {{name: _schema, logicalType: string, required: true}}
      - name: meta
        logicalType: object
        required: true
        properties:
          - {{name: id, logicalType: string}}
          - {{name: dt, logicalType: timestamp}}
          - {{name: stream, logicalType: string, required: true}}
          - {{name: domain, logicalType: string}}
"""
COLUMNS = """\
      - {name: small, logicalType: integer, physicalType: int}
      - {name: big, logicalType: integer}
      - {name: ratio, logicalType: number}
      - {name: short_ratio, logicalType: number, physicalType: float}
      - {name: price, logicalType: number, physicalType: "decimal(9,2)"}
      - {name: flag, logicalType: boolean}
      - {name: label, logicalType: string}
      - {name: device, logicalType: string, physicalType: uuid}
      - {name: blob, logicalType: string, physicalType: binary}
      - {name: digest, logicalType: string, physicalType: "fixed[4]"}
      - {name: day, logicalType: date}
      - {name: clock, logicalType: time}
      - {name: at, logicalType: timestamp}
      - {name: local, logicalType: timestamp, physicalType: timestamp}
      - {name: anything, logicalType: object, physicalType: json}
      - {name: numbers, logicalType: array, items: {logicalType: integer}}
      - name: parts
        logicalType: array
        items:
          logicalType: object
          customProperties: [{property: additionalProperties, value: true}]
          properties:
            - {name: name, logicalType: string, required: true}
            - {name: seen, logicalType: array, items: {logicalType: timestamp}}
      - name: slots
        logicalType: map
        map:
          key: {logicalType: string}
          value:
            logicalType: object
            properties:
              - {name: size, logicalType: integer}
              - {name: deep, logicalType: object, properties: [{name: x, logicalType: number}]}
      - name: closed
        logicalType: object
        properties:
          - {name: only, logicalType: string}
"""


def registry(project: Path) -> Registry:
    """A project with two streams: lab/every (open, a column of every kind) and lab/closed (closed, keyed by a number)."""
    folder = project / "data_products" / "lab"
    folder.mkdir(parents=True)
    (project / "workspace.yaml").write_text("load_from: []\n")
    (folder / "domain.yaml").write_text(
        "name: lab\ntitle: Laboratory\nowners: [team:lab]\nsupport: [{channel: lab@example.org, tool: email}]\n", encoding="utf-8"
    )
    (folder / "every.yaml").write_text(HEAD.format(name="every", open="true") + COLUMNS, encoding="utf-8")
    keyed = "      - {name: number, logicalType: integer, required: true, primaryKey: true, primaryKeyPosition: 1}\n"
    (folder / "closed.yaml").write_text(HEAD.format(name="closed", open="false") + keyed, encoding="utf-8")
    found = Registry.load(project)
    assert not [problem for problem in found.problems if problem.severity == "error"], found.problems
    return found


def event(name: str = "every", **fields: Any) -> dict[str, Any]:
    """A good event of a stream of the laboratory."""
    meta = {"id": "0b3a", "dt": "2024-05-01T12:00:00Z", "stream": f"lab.{name}.v1"}
    return {"$schema": f"/lab/{name}/1.2.0", "meta": meta, **fields}


# --- events by strategy; each leaf is drawn as (value, its spellings)

_zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_moments = st.datetimes(datetime(1900, 1, 2), datetime(2200, 1, 1))
_texts = st.text(st.characters(codec="utf-8"), max_size=8)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)


def _instant(moment: datetime, zone: timezone | None) -> str:
    if zone is None:
        return moment.isoformat() + "Z"
    text = moment.replace(tzinfo=UTC).astimezone(zone).isoformat(timespec="microseconds")
    return text.replace("T", "t", 1)


def spellings(column: Column) -> st.SearchStrategy[tuple[Any, Any]]:
    """Two spellings of one value of the column: equal under our *equal*, often different as text."""
    if column.is_json:
        return st.dictionaries(_texts, _json, max_size=3).map(lambda value: (value, respelt(value)))
    if column.fields:
        return _objects(column.fields, undeclared=not column.closed)
    if column.element is not None:
        return st.lists(spellings(column.element), max_size=3).map(lambda pairs: ([a for a, _ in pairs], [b for _, b in pairs]))
    if column.value is not None:
        entries = st.dictionaries(_texts, spellings(column.value), max_size=3)
        return entries.map(lambda pairs: ({k: a for k, (a, _) in pairs.items()}, dict(reversed([(k, b) for k, (_, b) in pairs.items()]))))
    return _leaf(str(column.type))


def _leaf(kind: str) -> st.SearchStrategy[tuple[Any, Any]]:
    integers = st.integers(-(2**31), 2**31 - 1) if kind == "int" else st.integers(-(2**63), 2**63 - 1)
    if kind in ("int", "long"):
        return integers.map(lambda n: (n, float(n) if abs(n) < 2**53 else n))
    if kind in ("double", "float"):
        width = 64 if kind == "double" else 32
        numbers = st.floats(allow_nan=False, allow_infinity=False, width=width)
        return numbers.map(lambda x: (x, int(x) if x.is_integer() and abs(x) < 2**53 else x))
    if kind.startswith("decimal"):
        cents = st.integers(-(10**8), 10**8)
        return cents.map(lambda n: (f"{Decimal(n) / 100:.2f}", n / 100 if n % 100 else n // 100))
    leaves: dict[str, st.SearchStrategy[tuple[Any, Any]]] = {
        "boolean": st.booleans().map(lambda b: (b, b)),
        "string": _texts.map(lambda s: (s, s)),
        "uuid": st.uuids().map(lambda u: (str(u), str(u).upper())),
        "binary": st.binary(max_size=6).map(lambda b: (base64.b64encode(b).decode(),) * 2),
        "fixed[4]": st.binary(min_size=4, max_size=4).map(lambda b: (base64.b64encode(b).decode(),) * 2),
        "date": st.dates(date(1, 1, 1)).map(lambda d: (d.isoformat(), d.isoformat())),
        "time": st.times().map(lambda t: (t.isoformat(), _padded(t))),
        "timestamptz": st.tuples(_moments, _zones).map(lambda p: (_instant(p[0], None), _instant(p[0], p[1]))),
        "timestamp": _moments.map(lambda m: (m.isoformat(), m.isoformat(" ", "microseconds"))),
    }
    return leaves[kind]


def _padded(moment: time) -> str:
    return moment.isoformat("microseconds")


def respelt(value: Any) -> Any:
    """The same free JSON in other words: keys turned round, whole numbers as doubles, nulls in objects left out."""
    if isinstance(value, dict):
        return {key: respelt(item) for key, item in reversed(value.items()) if item is not None}
    if isinstance(value, list):
        return [respelt(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


@st.composite
def _objects(draw: st.DrawFn, columns: tuple[Column, ...], *, undeclared: bool) -> tuple[Any, Any]:
    first, second = {}, {}
    for column in columns:
        if column.required or draw(st.booleans()):
            first[column.event_name], second[column.event_name] = draw(spellings(column))
        elif draw(st.booleans()):
            first[column.event_name] = None
    if undeclared:
        declared = {column.event_name for column in columns}
        for name, value in draw(st.dictionaries(_texts.filter(lambda text: text not in declared), _json, max_size=2)).items():
            first[name], second[name] = value, respelt(value)
    return first, dict(reversed(second.items()))


def events(contract: Contract) -> st.SearchStrategy[tuple[dict[str, Any], dict[str, Any]]]:
    """A valid event of the contract and another spelling of it."""
    return _objects(contract.columns, undeclared=not contract.closed)


def raw(value: Any) -> bytes:
    """The bytes of an event."""
    return orjson.dumps(value)

"""Law of tracing: what a query's text says of a changed row's keys is enough to bring the result up to date.

Small random inputs are changed at random. Keys that the traced expressions give for the changed rows are recomputed, from the rows of
those keys alone, as a derivation does; the result is compared with the query over everything. No lakehouse: thousands of rows a second.
"""

# ruff: noqa: E501 - queries stand as a user writes them
from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import pytest

from platform_resources.engines.duck import offline_session
from platform_resources.engines.loading import read_transform
from platform_resources.engines.transform import Transform

FILES = """\
servers:
  - {server: tests, type: custom, customProperties: [{property: source, value: platform}]}
"""
INPUT = """\
      - {name: id, logicalType: integer}
      - {name: k, logicalType: string}
      - {name: n, logicalType: integer}
      - {name: Mixed, logicalType: string}
      - {name: t, logicalType: timestamp, physicalType: timestamp}
      - {name: d, logicalType: date}
      - {name: x, logicalType: number}
      - {name: c, logicalType: object, properties: [{name: name, logicalType: string}, {name: Size, logicalType: integer}]}
"""
VALUES: Mapping[str, tuple[str, ...]] = {
    "id": ("1", "2", "NULL"), "k": ("'1'", "'01'", "'2'", "NULL"), "n": ("1", "2", "NULL"), "mixed": ("'1'", "'x'", "'X'"),
    "t": ("TIMESTAMP '2026-01-01'", "TIMESTAMP '2026-01-01 12:00:00'"), "d": ("DATE '2026-01-01'", "DATE '2026-01-02'"),
    "x": ("0.0::DOUBLE", "'-0.0'::DOUBLE"),
    "c": ("{'name': '1', 'size': 1}", "{'name': '2', 'size': 1}", "NULL"),
}  # fmt: skip
TYPES = {
    "id": "BIGINT", "k": "VARCHAR", "n": "BIGINT", "mixed": "VARCHAR", "t": "TIMESTAMP", "d": "DATE", "x": "DOUBLE",
    "c": "STRUCT(name VARCHAR, size BIGINT)",
}  # fmt: skip
POOL = 100
OUTPUT = {
    "k": "{name: k, logicalType: string}", "d": "{name: d, logicalType: date}", "t": "{name: t, logicalType: timestamp, physicalType: timestamp}",
    "Mixed": "{name: Mixed, logicalType: string}", "n": "{name: n, logicalType: integer}", "id": "{name: id, logicalType: integer}",
    "c.name": "{name: c, logicalType: object, properties: [{name: name, logicalType: string}, {name: Size, logicalType: integer}]}",
}  # fmt: skip

# name: query, key, inputs by which it must be traced. Every query also gives m, one more value of the row.
QUERIES: Mapping[str, tuple[str, str, str]] = {
    "inner": ("select f.k, a.n as m from shop.f join shop.a on f.k = a.k", "k", "a f"),
    "where": ("select f.k, a.n as m from shop.f, shop.a where f.k = a.k", "k", "a f"),
    "left": ("select f.k, a.n as m from shop.f left join shop.a on f.k = a.k and a.n > 1", "k", "a f"),
    "right": ("select a.k, f.n as m from shop.f right join shop.a on f.k = a.k", "k", "a f"),
    "right of two": ("select a.k, b.n as m from shop.f join shop.b on f.k = b.k right join shop.a on f.k = a.k", "k", "a b f"),
    "semi": ("select f.k, f.n as m from shop.f semi join shop.a on f.k = a.k", "k", "a f"),
    "anti": ("select f.k, f.n as m from shop.f anti join shop.a on f.k = a.k", "k", "a f"),
    "asof": ("select f.k, a.n as m from shop.f asof left join shop.a on f.k = a.k and f.id >= a.id", "k", "f a"),
    "full": ("select b.k, a.n as m from shop.f full join shop.a on f.k = a.k join shop.b on b.k = f.k", "k", "b"),
    "grouped": ("select f.k, cast(sum(a.n) as bigint) as m from shop.f left join shop.a on f.k = a.k group by f.k", "k", "a f"),
    # an equality of two types is none of values
    "text = number": ("select f.k, a.n as m from shop.f left join shop.a on f.k = a.n", "k", "f"),
    "number = text": ("select f.n, a.n as m from shop.f left join shop.a on a.k = f.n", "n", "f"),
    "time = date": ("select f.t, a.n as m from shop.f left join shop.a on f.t = a.d", "t", "f"),
    "date = time": ("select f.d, a.n as m from shop.f join shop.a on f.d = a.t", "d", "f"),
    "types through a view": ("with v as (select id, n as k, n from shop.a) select f.k, v.n as m from shop.f join v on f.k = v.k", "k", "f"),
    "cast to one type": ("select f.d, a.n as m from shop.f join shop.a on f.d = cast(a.t as date)", "d", "a f"),
    "minus zero": ("select cast(f.x as varchar) as k, a.n as m from shop.f join shop.a on f.x = a.x", "k", ""),
    "collation": ("select f.Mixed, a.n as m from shop.f join shop.a on f.Mixed = a.Mixed collate nocase", "Mixed", "f"),
    "union of types": ("select cast(u.t as varchar) as k, u.n as m from (select t, n from shop.f union all select d, n from shop.a) as u", "k", "a f"),
    # the ON of an outer, semi, anti or ASOF join is not true of other tables
    "left, other": ("select f.k, b.n as m from shop.f join shop.b on b.id = f.id left join shop.a on a.id = f.id and b.k = f.k", "k", "f"),
    "left, then null": ("select f.k, b.n as m from shop.f left join shop.a on f.k = a.k join shop.b on b.k is not distinct from a.k", "k", "f a"),
    "anti, other": ("select f.k, b.n as m from shop.f join shop.b on b.id = f.id anti join shop.a on a.id = f.id and b.k = f.k", "k", "f"),
    "semi, other": ("select f.k, b.n as m from shop.f join shop.b on b.id = f.id semi join shop.a on a.id = f.id and a.k = f.k", "k", "a f"),
    "right, before": ("select a.k, b.n as m from shop.f right join shop.a on f.k = a.k join shop.b on b.k is not distinct from f.k", "k", "a f"),
    "right, other": ("select b.k, f.n as m from shop.f right join shop.a on f.k = a.k join shop.b on b.k is not distinct from f.k", "k", "b"),
    "full, other": ("select b.k, f.n as m from shop.f full join shop.a on f.k = a.k join shop.b on b.k = f.k", "k", "b"),
    "full, null": ("select b.k, a.n as m from shop.f full join shop.a on f.k = a.k join shop.b on b.k is not distinct from f.k", "k", "b"),
    "where on the optional side": ("select f.k, a.n as m from shop.f left join shop.a on f.id = a.id where f.k = coalesce(a.k, '1')", "k", "f"),
    "where on null": ("select f.k, a.n as m from shop.f left join shop.a on f.id = a.id where f.k is not distinct from a.k", "k", "f"),
    "asof, where": ("select f.k, a.n as m from shop.f asof join shop.a on f.id >= a.id where f.k = a.k", "k", "f"),
    "asof using": ("select f.id, a.n as m from shop.f asof join shop.a using (n, id)", "id", "f"),
    "key of the asof row": ("select a.k, f.n as m from shop.f asof join shop.a on f.n = a.n and f.id >= a.id", "k", ""),
    "joins in parentheses": ("select a.k, f.n as m from shop.f left join (shop.a join shop.b on a.k = b.k) on f.id = a.id", "k", ""),
    # sound in another dress
    "using": ("select k, a.n as m from shop.f left join shop.a using (k)", "k", "a f"),
    "using twice": ("select k, a.n + b.n as m from shop.f join shop.a using (k) left join shop.b using (k)", "k", "a b f"),
    "using, grouped": ("select k, cast(sum(a.n) as bigint) as m from shop.f left join shop.a using (k) group by k", "k", "a f"),
    "using, right": ("select k, f.n as m from shop.f right join shop.a using (k)", "k", "a f"),
    "using, full": ("select k, f.n as m from shop.f full join shop.a using (k)", "k", ""),
    "mixed case": ("select f.Mixed, a.n as m from shop.f join shop.a on a.mixed = f.MIXED", "Mixed", "a f"),
    "parentheses": ("((select f.k, a.n as m from shop.f join shop.a on f.k = a.k))", "k", "a f"),
    "parentheses, union": ("((select k, n as m from shop.f) union all ((select k, n from shop.a)))", "k", "a f"),
    "nested": ("select f.c, a.n as m from shop.f left join shop.a on f.c.name = a.k", "c.name", "a f"),
    "nested, made": ("select {'name': f.k, 'size': f.n} as c, a.n as m from shop.f left join shop.a on f.k = a.k", "c.name", "a f"),
    "nested, grouped": ("select struct_pack(name := k, Size := count(*)) as c, min(n) as m from shop.f group by k", "c.name", "f"),
    "nested, through a view": ("with v as (select c, {'e': {'name': k}} as s, n from shop.f) select {'name': v.s.e.name || v.c.name, 'Size': n} as c, n as m from v", "c.name", "f"),
}  # fmt: skip


def transform_of(shop: Any, query: str, key: str) -> Transform:
    for name in ("f", "a", "b"):
        shop.write(name, INPUT, servers=FILES)
    properties = f"      - {OUTPUT[key]}\n      - {{name: m, logicalType: integer}}\n"
    shop.totals(query, incremental="key", more=f"{{property: incrementalKey, value: [{key}]}}", properties=properties)
    transform = read_transform(shop.contract(), shop.registry)
    assert transform is not None
    return transform


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """A session with a pool of random rows, from which inputs are drawn by number."""
    chance = random.Random(20260121)
    rows = ", ".join(f"({number}, {', '.join(chance.choice(values) for values in VALUES.values())})" for number in range(POOL))
    casts = ", ".join(f"CAST({name} AS {TYPES[name]}) AS {name}" for name in VALUES)
    with offline_session() as con:
        con.execute(
            f"CREATE SCHEMA shop; CREATE TABLE pool AS SELECT number, {casts} FROM (VALUES {rows}) AS rows(number, {', '.join(VALUES)})"
        )
        yield con


@pytest.mark.parametrize("name", QUERIES)
def test_recomputing_the_traced_keys_is_enough(shop: Any, con: duckdb.DuckDBPyConnection, name: str) -> None:
    query, key, wanted = QUERIES[name]
    transform = transform_of(shop, query, key)
    chance = random.Random(name)
    for product in transform.keys:
        for _ in range(8):
            live_one_change(con, query, key, transform, product, chance)
    assert set(transform.keys) == {f"shop/{table}" for table in wanted.split()}, transform.untraced


def live_one_change(
    con: duckdb.DuckDBPyConnection, query: str, key: str, transform: Transform, product: str, chance: random.Random
) -> None:
    """Change one traced input, bring the result up to date, compare; an untraced one has all recomputed, which needs no test."""
    drawn = {one: chance.sample(range(POOL), chance.randrange(1, 5)) for one in transform.inputs}
    rows = {one: rows_of(numbers) for one, numbers in drawn.items()}
    kept = [number for number in drawn[product] if chance.random() < 0.6]
    before, after = rows[product], rows_of([*kept, chance.randrange(POOL)])
    fill(con, rows)
    con.execute(f"CREATE OR REPLACE TABLE ours AS {query}")
    kind = con.sql(f"SELECT {key} FROM ours").types[0]
    affected = " UNION ".join(
        f"SELECT CAST({place} AS {kind}) AS key FROM (({before} EXCEPT ALL {after}) UNION ALL ({after} EXCEPT ALL {before}))"
        for (place,) in transform.keys[product]
    )
    con.execute(f"CREATE OR REPLACE TABLE affected AS {affected}")
    rows[product] = after
    fill(con, rows)
    theirs = con.execute(query).fetchall()
    for one, places in transform.keys.items():
        if len(places) == 1:  # an input that is read at one place is held to the keys
            test = f"CAST({places[0][0]} AS {kind}) IS NOT DISTINCT FROM affected.key"
            rows[one] = f"SELECT it.* FROM ({rows[one]}) AS it SEMI JOIN affected ON {test}"
    fill(con, rows)
    ours = con.execute(
        f"FROM ours ANTI JOIN affected ON ours.{key} IS NOT DISTINCT FROM affected.key "
        f"UNION ALL SELECT result.* FROM ({query}) AS result SEMI JOIN affected ON result.{key} IS NOT DISTINCT FROM affected.key"
    ).fetchall()
    assert sorted(ours, key=repr) == sorted(theirs, key=repr), (product, transform.keys, drawn, kept)


def rows_of(numbers: list[int]) -> str:
    return f"SELECT * EXCLUDE number FROM pool WHERE number IN ({', '.join(map(str, numbers))})"


def fill(con: duckdb.DuckDBPyConnection, rows: Mapping[str, str]) -> None:
    con.execute("; ".join(f"CREATE OR REPLACE VIEW {product.replace('/', '.')} AS {text}" for product, text in rows.items()))

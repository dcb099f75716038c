"""What passes for Spark gives there what DuckDB gives, nulls, Unicode and the edges of types included; what does not is refused.

The expressions of `ALIKE` were chosen by trying some 700 of them on both engines; those that differed stand in `REFUSED`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
)

from platform_resources.engines.spark import Spark, from_arrow
from platform_resources.engines.transpiling import portability_problems, to_spark
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.conforming import arrow_schema_of

_LIST = ListType(31, LongType(), element_required=False)
_STRUCT = StructType(NestedField(32, "a", LongType()), NestedField(33, "b", StringType()))
_MAP = MapType(34, StringType(), 35, LongType(), value_required=False)
_KINDS: dict[str, Any] = {
    "id": LongType(), "i": IntegerType(), "j": IntegerType(), "b": LongType(), "d": DoubleType(), "x": DoubleType(),
    "e": DecimalType(18, 2), "s": StringType(), "u": StringType(), "ts": TimestamptzType(), "n": TimestampType(), "dt": DateType(),
    "l": _LIST, "st": _STRUCT, "m": _MAP, "f": BooleanType(), "r": FloatType(), "g": DecimalType(18, 4), "h": DecimalType(38, 10),
    "my col": LongType(), "order": LongType(),
}  # fmt: skip
SCHEMA = Schema(*(NestedField(number, name, kind) for number, (name, kind) in enumerate(_KINDS.items(), 1)))
_REALS = [0.1, 1.5, 2.7, -2.5, 0.0, 7.0, 9.5, None, 1e10, 0.125, 3.0, -1.5]
_TEXTS = ["a", "e\u0301 É", "İSTANBUL", "straße", "😀x", "", " a\u00a0", "a%b", "12", "ΑΣ", "naïve\tcafé ", None]
_LISTS: list[Any] = [[], [1], [3, 1, 2], [None, 2], None, [5, 5], [1, 2, 3, 4], [0], [9, 8], [2], [7, 7, 7], [None]]


def row(k: int) -> dict[str, Any]:
    return {
        "id": k, "i": None if k == 5 else k - 4, "j": [3, -3, 2, 7, None, 1, -2, 5, 4, -7, 9, 10][k], "b": None if k == 7 else 10**10 + k,
        "d": [0.5, 1.5, 2.5, -2.5, -0.0, math.nan, math.inf, None, 1e15, 0.1, 3.0, -1.5][k],
        "x": [0.25, 1.5, 2.75, -2.5, 0.0, 7.0, 9.5, None, 1e10, 0.125, 3.0, -1.5][k],
        "e": None if k == 3 else Decimal(k * 37 - 100) / 100, "s": _TEXTS[k], "u": _TEXTS[(k * 5) % 12],
        "ts": None if k == 2 else datetime(2026, 1, 28 + k % 4, 23 - k, 59, 58, 123456, tzinfo=UTC),
        "n": None if k == 4 else datetime(2026, 2, 25, k, 5, 6, 7) + timedelta(days=k),
        "dt": None if k == 6 else date(2025, 12, 28) + timedelta(days=k), "l": _LISTS[k],
        "st": None if k == 8 else {"a": k, "b": None if k == 9 else f"w{k}"}, "m": None if k == 3 else [(f"k{q}", q) for q in range(k % 3)],
        "f": [True, False, None][k % 3], "r": _REALS[k], "g": None if k == 3 else Decimal(k * 37_777 - 100) / 10**4,
        "h": None if k == 4 else Decimal(k * 377_777_777 + 123) / 10**10, "my col": k % 4, "order": -k,
    }  # fmt: skip


ROWS = pa.Table.from_pylist([row(k) for k in range(12)], schema=arrow_schema_of(SCHEMA))

ALIKE = """
i + j;  i - j;  i * j;  -i;  b * 1000;  x / nullif(j, 0);  i / nullif(j, 0);  i // nullif(j, 0);  i % nullif(j, 0);  7 / 2;  -7 // 2
h + h;  h + e;  e - h;  h - 1;  h * 2;  h * e;  e * h;  g * g * g;  cast(b as decimal(38, 2)) * h;  h / 3;  h % 7;  round(h * 2, 3)
coalesce(h, cast(b as decimal(38, 2)));  greatest(h, cast(b as decimal(38, 0)));  h = cast(e as decimal(38, 2));  cast(h * 2 as varchar)
e + e;  e * e;  e / nullif(e, 0);  e + x;  2.0 / 3;  x % 2
cast(i as double);  cast(i as varchar);  cast(e as varchar);  cast(f as varchar);  cast(dt as varchar);  cast(n as varchar)
cast(ts as date);  cast(n as date);  cast(dt as timestamp);  cast(ts as timestamp);  cast(i as bigint);  cast(f as integer)
cast(e as decimal(18, 1));  cast(e as double);  cast(i as decimal(18, 2));  cast('2026-01-05' as date)
cast('2026-01-05 10:00:00' as timestamp);  cast(floor(x) as bigint);  cast(ceil(e / 100.0) * 100 as bigint)
cast(floor(e) as varchar);  cast(1.50 as varchar);  cast('12' as integer)
i = j;  i <> j;  i < j;  i is null;  i is distinct from j;  i is not distinct from j;  d = d;  d > 1;  s = u;  s < u
s like 'a%';  s not like '%a%';  s like '%!%b' escape '!'
min(s) over ();  s in ('a', 'é');  i in (1, 2, null);  i between 0 and 3;  f and i > 0;  f or i > 0;  not f
case when i > 0 then 'p' when i < 0 then 'n' end;  case i when 1 then 'one' else 'other' end;  if(i > 0, 1, 2)
coalesce(i, j, 0);  nullif(i, j);  greatest(i, j);  least(i, j);  greatest(d, x)
lower(s);  length(s);  trim(s);  ltrim(s);  substring(s, 2, 2);  left(s, 2);  right(s, 2);  rtrim(s);  replace(s, 'a', 'b')
s || u;  s || i;  s || e;  s || dt;  s || n;  s || null;  lower(trim(s));  floor(i / nullif(j, 0))
concat(s, u);  starts_with(s, 'a');  ends_with(s, 'a');  contains(s, 'a');  strpos(s, 'a');  md5(s)
regexp_replace(s, '[a-c]+|é', 'z', 'g');  regexp_replace(s, '[^a]', '-', 'g')
regexp_matches(s, 'a\\.b');  regexp_matches(s, 'x?');  regexp_matches(s, '\\d+')
abs(i);  abs(x);  ceil(x);  floor(x);  floor(i);  round(x);  round(e, 1)
year(ts);  month(dt);  day(n);  hour(ts);  minute(ts);  second(ts);  quarter(dt);  dayofyear(dt);  weekofyear(dt)
extract(year from ts);  extract(hour from n);  last_day(dt);  strftime(ts, '%Y-%m-%d %H:%M:%S')
date_trunc('day', ts);  date_trunc('hour', n);  date_trunc('week', n);  date_trunc('month', ts);  date_trunc('month', dt)
ts + interval 1 day;  n - interval 3 month;  date_diff('day', dt, cast(ts as date))
ts > timestamptz '2026-01-29 00:00:00+00';  dt = date '2026-01-01'
n + interval 2 week;  n - interval '36 hours';  n + interval 5 microsecond
st.a;  st.b;  st is null;  {'a': i, 'b': s};  case when f then st end
r + r;  r + x;  r = x;  coalesce(r, x);  -r;  abs(r);  round(r);  floor(r);  cast(r as double) / 3;  cast(r as double) = 0.1
i = 1.0;  x = 0.5;  b = e;  coalesce(dt, n);  n = ts;  dt = '2026-01-05';  case when f then null else s end
count_if(i > 0) over (partition by f);  sum(i) over (order by i range between 1 preceding and 1 following)
sum(id) over (order by n range between interval 1 day preceding and current row)
sum(i) over (order by id);  row_number() over (order by i);  row_number() over (order by i desc, id)
row_number() over (partition by f order by i nulls first);  rank() over (order by f);  dense_rank() over (order by s)
lag(i) over (order by id);  lead(i, 2, 0) over (order by id);  first_value(s) over (order by id);  last_value(s) over (order by id)
sum(e) over (partition by f order by id rows between 1 preceding and current row);  count(*) over ();  ntile(3) over (order by id)
min(i) over (order by id rows between 1 following and unbounded following);  (select max(j) from shop.things)
"""
AGGREGATES = (
    "count(*), count(i), count(distinct j), sum(i), sum(b), sum(e), sum(distinct e), avg(i), avg(x), avg(e), avg(r), avg(h),"
    " avg(distinct j), avg(distinct x), min(s), max(s), min(ts), max(dt), max(d), min(d), max(f), bool_and(f), bool_or(f),"
    " count_if(i > 0), sum(distinct j), count(*) filter (where i > 0), sum(i) filter (where i > 99), count_if(f) filter (where i > 99),"
    " count(distinct st), count(distinct (i, j)), sum(h) + 1, sum(e) * 1.123456789, sum(r), max(h) - min(e)"
)
QUERIES = (
    f"select {AGGREGATES} from shop.things",
    f"select {AGGREGATES} from shop.things where false",
    f"select f, {AGGREGATES} from shop.things where id > 3 group by f",
    "select sum(i) as a, count(*) as b from shop.things where false",
    "select f, count(*) as c, max(s) as m from shop.things group by all having count(*) > 1 order by f desc",
    "select distinct f from shop.things",
    "select id from shop.things qualify row_number() over (partition by f order by id) = 1",
    "select id, i + 1 as k, k * 2 as kk from shop.things where k > 2",
    "select id, -i as i from shop.things qualify row_number() over (order by i, id) < 4",
    "select a.id from shop.things a join shop.things c on a.id = c.id"
    " qualify row_number() over (partition by a.f order by a.id) = 1 and c.i < 2",
    "select f, sum(i) as n from shop.things group by f qualify rank() over (order by sum(i) desc) <= 2",
    "with q as (select id from shop.things qualify count_if(i > 0) over (order by id) > 1) select id from q union all select 7",
    "select * exclude (d, l, m, st) from shop.things",
    'select id, "my col" as "a b", "order" as "select" from shop.things order by "a b", id limit 3',
    "select a.id, c.s from shop.things a left join shop.things c on a.id = c.i",
    "select a.id, c.id as cid from shop.things a full join shop.things c on a.id = c.i",
    "select id, c.s as t from shop.things a join shop.things c using (id)",
    "select a.id from shop.things a semi join shop.things c on a.id = c.i",
    "select a.id from shop.things a anti join shop.things c on a.id = c.i",
    "select id from shop.things a where exists (select 1 from shop.things c where c.i = a.j)",
    "select id from shop.things where i in (select j from shop.things)",
    "select id from shop.things where i not in (select j from shop.things where j > 0)",
    "select id, (select max(c.j) from shop.things c where c.id = a.id) as mx from shop.things a",
    "select i from shop.things intersect select j from shop.things",
    "select i from shop.things except select j from shop.things",
    "select i from shop.things except all select j from shop.things",
    "select f from shop.things union select f from shop.things",
    "select id, y from shop.things, unnest(l) as q(y)",
    "select a.id, y from shop.things a left join shop.things c on a.i = c.j cross join unnest(a.l) as q(y)",
    "select id from shop.things where (not (i in (select j from shop.things where j > 0))) and id > 2",
    "select id, exists (select 1 from shop.things c where c.i = a.j) as found from shop.things a",
    "select q.id, j from (select id, i from shop.things) as q natural join (select id, j from shop.things) as p",
    "select h as x from shop.things union all select cast(e as decimal(38, 2)) from shop.things",
    "select null as x, id from shop.things union all select s, id from shop.things",
    "select st from shop.things union all select st from shop.things",
    "with recent as (select * from shop.things where dt > '2025-12-30') select f, sum(i) as n from recent group by f",
    "select id from shop.things order by d, id limit 4",
    "select id from shop.things order by s desc, id limit 4",
)
REFUSED = """
i / j;  i % j;  i // j;  x // nullif(j, 0);  cast(x as integer);  cast(e as bigint);  cast(x as varchar);  cast(ts as varchar)
cast(x as decimal(18, 2));  try_cast(s as integer);  hash(s);  upper(s);  s ilike 'A%';  s[1];  s[2:3];  substring(s, 0, 2);  left(s, -1)
substring(s, i, 2);  s ~ 'a.*';  regexp_replace(s, 'a', 'b');  regexp_matches(s, 'a$');  regexp_matches(s, u);  regexp_extract(s, 'a')
trim(s, 'a');  round(x, 1);  isnan(d);  log(x);  levenshtein(s, u);  format('{}', i);  printf('%d', i);  url_encode(s);  i << 2;  gcd(i, j)
dayofweek(dt);  isodow(dt);  extract(dow from dt);  extract(epoch from ts);  epoch(ts);  epoch_ms(ts);  monthname(dt);  dayname(dt)
time_bucket(interval 1 hour, ts);  dt - dt;  ts - ts;  dt + interval 1 day;  dt + 1;  date_diff('hour', ts, ts);  date_diff('month', dt, dt)
strptime(s, '%Y');  strftime(ts, '%A');  ts at time zone 'UTC';  l[1];  l[-1];  len(m);  list_contains(l, 2);  2 in l;  list_sum(l)
list_distinct(l);  list_sort(l);  [y + 1 for y in l];  list_transform(l, y -> y + 1);  m['k0'];  map_keys(m);  element_at(m, 'k0');  st['a']
to_json(st);  '{"a": 1}'::json -> 'a';  unnest(l);  median(j);  quantile_cont(j, 0.5);  mode(j);  approx_count_distinct(j);  arg_max(s, id)
any_value(s);  first(s order by id);  list(i order by id);  string_agg(s, ',' order by id);  histogram(j);  product(j);  random();  now()
uuid();  current_date;  stddev(x);  sqrt(x);  reverse(s);  s like 'a\\%';  s like u;  length(l);  contains(l, 2);  concat(l, l);  max(st)
sum(i) over (order by id rows between 1 preceding and 1 following exclude current row)
sum(i) over (order by id rows between 1 preceding and 1 following exclude group)
sum(id) over (order by i groups between 1 preceding and current row)
row_number() over ();  first_value(i) over (partition by f);  count(distinct i) over ();  sum(i) filter (where f) over (order by id)
max(i, 2);  sum(x order by id);  avg(distinct e);  avg(distinct g)
s || d;  s || ts;  s || r;  'a' || l;  r = 0.1;  r <> 0.1;  r > 2.7;  r in (1.5, 2.7);  r between 0.1 and 2.7
b + r;  r - 0.1;  r * 1.5;  e * r
r / 3;  r / r;  coalesce(r, e);  nullif(r, 0);  case when f then r else e end;  lag(r, 1, 0.5) over (order by id)
i in (select j from shop.things);  not i in (select j from shop.things);  (i in (select j from shop.things)) is null
st = st;  st > {'a': 1, 'b': 'a'};  st between st and st;  greatest(st, st);  nullif(st, st);  rank() over (order by st);  l < l
(i, j) = (1, 1);  (i, j) < (2, 3);  rank() over (order by (i, j));  coalesce(st, {'a': i, 'b': s})
regexp_matches(s, 'a.b');  regexp_replace(s, '.', 'z', 'g');  regexp_replace(s, 'b*', 'z', 'g');  regexp_replace(s, 'x?', '-', 'g')
regexp_replace(s, 'a|', '-', 'g');  regexp_replace(s, '^', '-', 'g')
n + interval 1 quarter;  n + interval 1 decade;  n + interval (i) day;  n + interval '1 quarter';  interval 1 day;  i = s
"""
REFUSED_QUERIES = (
    "select distinct on (f) f, id from shop.things",
    "select id, y from shop.things left join unnest(l) as q(y) on true",
    "select r.range from range(3) as r",
    "select id from shop.things tablesample 10 rows",
    "select f, i, count(*) from shop.things group by rollup (f, i)",
    "select id, q.y from shop.things join unnest(l) as q(y) on q.y > 1",
    "select id, q.y from shop.things a join unnest(a.l) as q(y) on a.i > 0",
    "select id, y from shop.things cross join unnest(l) as q(y) full join (select j from shop.things) c on c.j = id",
    "select y from shop.things, unnest(l) as y",
    "select id, i from shop.things union all by name select i, id from shop.things",
    "select id from shop.things union by name select i, id from shop.things",
    "select a.id, c.i from shop.things a asof join shop.things c on a.id >= c.i",
    "select a.id, q.i from shop.things a positional join (select i from shop.things) q",
    "select i from shop.things union all select s from shop.things",
    "select st from shop.things union all select {'b': s, 'a': id} from shop.things",
    "select a from shop.things as q(a, b)",
    "select id from shop.things qualify row_number() over (partition by f order by id) > 1 limit 3",
    "select distinct f from shop.things qualify row_number() over (partition by f order by id) > 1",
    "select id from shop.things where (i, j) not in (select i, j from shop.things where id < 3)",
    "select id from shop.things where i in (select j from shop.things) or id = 3",
    "select id from shop.things where not (i in (select j from shop.things) and f)",
    "select id from shop.things order by st, id limit 4",
    "select id, sum(i) over w as c from shop.things window w as (partition by f order by id)",
    "with recursive r(n) as (select 1 union all select n + 1 from r where n < 4) select n from r",
)


def expressions(text: str) -> list[str]:
    return [one.strip() for one in text.replace("\n", ";").split(";") if one.strip()]


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.register("given", ROWS)
    con.execute("CREATE SCHEMA shop; CREATE TABLE shop.things AS FROM given")
    yield con
    con.close()


@pytest.fixture(scope="module")
def things(spark: Spark) -> str:
    from_arrow(spark.session, ROWS).createOrReplaceTempView("things_of_the_corpus")
    return "things_of_the_corpus"


def plain(value: Any) -> Any:
    """A value without what differs between the engines' types and not in what it says."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else value if math.isinf(value) else Decimal(f"{value:.12g}").normalize()
    if isinstance(value, bool):
        return value
    if isinstance(value, int | Decimal):
        return Decimal(value).normalize(Context(prec=80)) if value else Decimal(0)
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def both(con: duckdb.DuckDBPyConnection, spark: Spark, view: str, query: str) -> tuple[list[Any], list[Any]]:
    ours = con.execute(query).to_arrow_table()
    theirs = spark.session.sql(to_spark(query, {"shop.things": view}, {"shop.things": SCHEMA})).toArrow()
    return ([[plain(value) for value in row.values()] for row in table.to_pylist()] for table in (ours, theirs))  # type: ignore[return-value]


def test_expressions_that_pass_are_alike(con: duckdb.DuckDBPyConnection, spark: Spark, things: str) -> None:
    alike = expressions(ALIKE)
    terms = ", ".join(f"{text} as c{number}" for number, text in enumerate(alike))
    ours, theirs = both(con, spark, things, f"select id, {terms} from shop.things")
    ours, theirs = sorted(ours, key=lambda row: row[0]), sorted(theirs, key=lambda row: row[0])
    assert len(ours) == len(theirs) == 12
    different = {
        text: [(one[number], other[number]) for one, other in zip(ours, theirs, strict=True) if one[number] != other[number]][:3]
        for number, text in enumerate(alike, 1)
    }
    assert {text: found for text, found in different.items() if found} == {}


def test_every_letter_has_one_small_letter(con: duckdb.DuckDBPyConnection, spark: Spark) -> None:
    codes = [code for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
    schema = Schema(NestedField(1, "id", LongType()), NestedField(2, "s", StringType()))
    letters = pa.table({"id": codes, "s": [chr(code) for code in codes]})
    con.register("letters", letters)
    con.execute("CREATE OR REPLACE TABLE shop.letters AS FROM letters")
    from_arrow(spark.session, letters).createOrReplaceTempView("letters_of_the_corpus")
    query = "select id, lower(s) as small from shop.letters where lower(s) <> s"
    ours = dict(con.execute(query).fetchall())
    text = to_spark(query, {"shop.letters": "letters_of_the_corpus"}, {"shop.letters": schema})
    theirs = dict(zip(*spark.session.sql(text).toArrow().to_pydict().values(), strict=True))
    unicode_16 = {0x1C89, 0xA7CB, 0xA7CC, 0xA7DA, 0xA7DC, *range(0x10D50, 0x10D66)}  # Spark knows their small letters, DuckDB does not
    known = (ours.keys() | theirs.keys()) - unicode_16
    different = {hex(code): (ours.get(code), theirs.get(code)) for code in known if ours.get(code) != theirs.get(code)}
    assert len(ours) > 1300
    assert different == {}


def test_queries_that_pass_are_alike(con: duckdb.DuckDBPyConnection, spark: Spark, things: str) -> None:
    different = {}
    for query in QUERIES:
        ours, theirs = both(con, spark, things, query)
        if sorted(ours, key=repr) != sorted(theirs, key=repr) or not ours:
            different[query] = (ours[:3], theirs[:3])
    assert different == {}


@pytest.mark.parametrize("text", expressions(REFUSED))
def test_what_differs_is_refused_with_its_line_and_a_remedy(text: str) -> None:
    problems = portability_problems(f"select id,\n{text} as c\nfrom shop.things", {"shop.things": SCHEMA}, "x.sql")
    assert problems, f"{text} passes for Spark"
    assert {problem.code for problem in problems} == {"sql-not-portable"}
    assert {problem.line for problem in problems} <= {1, 2, 3}
    assert all(problem.remedy.endswith((".", "?")) for problem in problems)


@pytest.mark.parametrize("query", REFUSED_QUERIES)
def test_queries_that_differ_are_refused(query: str) -> None:
    with pytest.raises(PlatformError) as refused:
        to_spark(query, {"shop.things": "x"}, {"shop.things": SCHEMA})
    assert refused.value.code == "sql-not-portable"

"""Law 7 for every derived product of the workspace: incremental equals recomputed. A new product is in without writing a line.

Rows are drawn from the contracts of its inputs and split into random commits, with redelivered events, changed and deleted rows,
partitions rewritten, compactions and expired snapshots in between. After each step the product is derived incrementally, and its
rows are compared with those of a full computation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from pyiceberg.table.snapshots import Operation

from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.iceberg import MergeRule, TableDefinition, table_definition
from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.engines.derivation import Derivation, Derived
from platform_resources.engines.duck import connect
from platform_resources.engines.loading import read_transform
from platform_resources.engines.sampling import RowSampler
from platform_resources.engines.transform import Transform
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.files import live_tasks
from platform_resources.lakehouse.parquet import DataFileWriter
from platform_resources.lakehouse.reading import arrow_table, duckdb_scan_sql
from platform_resources.lakehouse.staging import PartitionScope, stage_append, stage_empty, stage_merge, stage_overwrite
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.lakehouse.transaction import Replace, StagingTransaction

REGISTRY = Registry.load(SOURCE_ROOT)
DERIVED = [key for key, one in REGISTRY.contracts.items() if REGISTRY.transform_path(key) is not None and one.publication is None]
STEPS = 5


class InputHistory:
    """One input of a product and the random life it leads."""

    def __init__(
        self,
        contract: Contract,
        lakehouse: Lakehouse,
        chance: random.Random,
        keys: Collection[str] = (),
        crowded: bool = False,
        many: Collection[str] = (),
    ) -> None:
        self.contract, self.lakehouse, self.chance = contract, lakehouse, chance
        self.definition = table_definition(contract)
        self.most = 2_400 if crowded else 120
        self.sampler = RowSampler(contract, chance, values=1 if crowded else chance.choice([4, 8, 12]), few=keys, many=many)
        self.commits = 0

    def step(self, *, sure: bool = False) -> str:
        """Do one random thing, `sure` one that brings rows; its name."""
        moves: list[Callable[[], None]] = [self.append] * 5 + [self.heartbeat, self.compact, self.expire]
        row_wise = self.contract.source is None and self.contract.write_mode == "append"
        if not self.contract.is_stream and not row_wise:
            moves = [self.merge] * 3 + [self.delete] * 2 + [self.overwrite] * 2 + [self.heartbeat, self.compact, self.expire]
        move = self.chance.choice(moves) if self.commits and not sure else moves[0]
        move()
        return move.__name__

    def stamp(self) -> Stamp:
        self.commits += 1
        return Stamp(run_id=f"{self.contract.name}-{self.commits}")

    @property
    def merged(self) -> TableDefinition:
        """The definition, to be merged in one way and then in the other."""
        return replace(self.definition, merge=MergeRule(("merge-on-read", "copy-on-write")[self.commits % 2]))

    def draw(self) -> list[dict[str, Any]]:
        return self.sampler.rows(self.chance.randrange(1, self.most))

    def append(self) -> None:
        rows = self.draw()
        known = arrow_table(self.lakehouse.create(self.definition)).to_pylist() + rows
        rows += [self.sampler.redelivered(row) for row in self.chance.sample(known, k=min(3, len(known)))]
        stage_append(self.lakehouse, self.definition, self.sampler.table(rows), self.stamp()).commit()

    def distinct(self) -> pa.Table:
        keys = self.contract.primary_key
        rows = self.draw()
        unique = {tuple(row[name] for name in keys): row for row in rows}.values() if keys else rows
        return self.sampler.table(list(unique))

    def merge(self) -> None:
        if not self.contract.primary_key:
            stage_append(self.lakehouse, self.definition, self.distinct(), self.stamp()).commit()
            return
        stage_merge(self.lakehouse, self.merged, self.distinct(), self.stamp(), keys=self.contract.primary_key).commit()

    def delete(self) -> None:
        keys = list(self.contract.primary_key)
        if not keys:
            return self.overwrite()
        table = arrow_table(self.lakehouse.create(self.definition)).select(keys)
        gone = table.take(pa.array(self.chance.sample(range(table.num_rows), k=min(4, table.num_rows)), type=pa.int64()))
        nothing = self.sampler.table([])
        stage_merge(self.lakehouse, self.merged, nothing, self.stamp(), keys=tuple(keys), delete_keys=gone, replace_keys=True).commit()
        return None

    def overwrite(self) -> None:
        scope = self.chance.choice([PartitionScope.table(), PartitionScope.present()])
        stage_overwrite(self.lakehouse, self.definition, self.distinct(), self.stamp(), partitions=scope).commit()

    def heartbeat(self) -> None:
        stage_empty(self.lakehouse, self.definition, self.stamp()).commit()

    def compact(self) -> None:
        table = self.lakehouse.create(self.definition)
        tasks = live_tasks(table.io, table.current_snapshot(), self.contract.identifier)
        if not tasks:
            return
        transaction = StagingTransaction(table)
        written = DataFileWriter(table.io, table.metadata, self.contract.identifier).write(arrow_table(table))
        gone = {file.file_path for task in tasks for file in (task.data_file, *task.deletes)}
        with Replace(operation=Operation.REPLACE, gone=gone, transaction=transaction, io=table.io) as producer:
            for file in written:
                producer.append_data_file(file)
        updates, requirements = transaction.staged
        table._do_commit(updates, requirements)

    def expire(self) -> None:
        table = self.lakehouse.create(self.definition)
        old = [snapshot.snapshot_id for snapshot in table.metadata.snapshots if snapshot.snapshot_id != table.metadata.current_snapshot_id]
        if old:
            table.maintenance.expire_snapshots().by_ids(old).commit()


def test_the_workspace_has_derived_products() -> None:
    assert DERIVED, "the equality test would pass without testing anything"


@pytest.mark.parametrize("key", DERIVED)
def test_incremental_equals_recomputed(key: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    live_through(key, tmp_path_factory, least=1, most=3)


@pytest.mark.storm
@pytest.mark.parametrize("key", DERIVED)
def test_incremental_equals_recomputed_in_many_lives(key: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    live_through(key, tmp_path_factory, least=6, most=6)


def live_through(key: str, folders: pytest.TempPathFactory, *, least: int, most: int) -> None:
    """Compare in so many lives at the least, at the most until one was incremental and one gave rows."""
    contract = REGISTRY.get(key)
    transform = read_transform(contract, REGISTRY)
    assert transform is not None
    chance, plans, rows = random.Random(20260121), set[str](), 0
    for number in range(1, most + 1):
        # a product that counts from a threshold on gets what is drawn onto one key, if nothing else gave it a row
        made, found = check_one_life(
            contract, transform, random.Random(chance.getrandbits(32)), folders.mktemp("life"), crowded=number == most and rows == 0
        )
        plans, rows = plans | set(made), max(rows, found)
        if number >= least and rows and contract.incremental in plans:
            break
    assert rows > 0, "no life ever gave a row, so nothing was compared"
    assert contract.incremental in plans, f"only {sorted(plans)} were ever made, so incremental was not tried"


# Queries whose tracing once was wrong or wanting, with their incremental key: see tests/engines/test_tracing.py for the law itself.
ONCE_WRONG = {
    "types": (
        "select cast(f.d as varchar) as k, a.n as m from shop.f left join shop.a on f.d = date_trunc('month', a.t)",
        "k", "{name: k, logicalType: string}",
    ),
    "outer": (
        "select f.k, g.n as m from shop.f join shop.g on g.id = f.id left join shop.a on a.id = f.id and g.k = f.k",
        "k", "{name: k, logicalType: string}",
    ),
    "using": ("select k as Kind, g.n as m from shop.f left join shop.g using (k)", "Kind", "{name: Kind, logicalType: string}"),
    "nested": (
        "select f.c, a.n as m from shop.f left join shop.a on f.c.name = a.k",
        "c.name", "{name: c, logicalType: object, properties: [{name: name, logicalType: string}]}",
    ),
    "two of a name": (
        "select k, m from (select k, n as m, '' as o from shop.f "
        "union all select x.name, x.n, x.c.name from (select k as name, n, c from shop.a) as x)",
        "k", "{name: k, logicalType: string}",
    ),
}  # fmt: skip
HEAD = """\
apiVersion: v3.2.0
kind: DataContract
id: shop.{name}
version: 1.0.0
status: draft
{more}schema:
  - name: {name}
    logicalType: object
    customProperties: [{custom}]
    properties:
"""
FILES = """\
servers:
  - {server: tests, type: custom, customProperties: [{property: source, value: platform}]}
"""
INPUT = """\
      - {name: id, logicalType: integer, required: true, primaryKey: true, primaryKeyPosition: 1}
      - {name: k, logicalType: string}
      - {name: n, logicalType: integer}
      - {name: t, logicalType: timestamp, physicalType: timestamp}
      - {name: d, logicalType: date}
      - {name: c, logicalType: object, properties: [{name: name, logicalType: string}]}
"""


@pytest.mark.parametrize("name", ONCE_WRONG)
def test_queries_once_traced_wrong_equal_recomputed(name: str, tmp_path: Path) -> None:
    query, key, column = ONCE_WRONG[name]
    domain = tmp_path / "data_products" / "shop"
    domain.mkdir(parents=True)
    (domain / "domain.yaml").write_text("name: shop\ntitle: Shop\nowners: [team:shop]\n")
    for one in ("f", "g", "a"):
        (domain / f"{one}.yaml").write_text(HEAD.format(name=one, more=FILES, custom="") + INPUT)
    custom = f"{{property: incremental, value: key}}, {{property: incrementalKey, value: [{key}]}}"
    output = f"      - {column}\n      - {{name: m, logicalType: integer}}\n"
    (domain / "made.yaml").write_text(HEAD.format(name="made", more="", custom=custom) + output)
    (domain / "made.sql").write_text(query)
    registry = Registry.load(tmp_path)
    contract = registry.get("shop/made")
    transform = read_transform(contract, registry)
    assert transform is not None
    made, rows = check_one_life(contract, transform, random.Random(7), tmp_path, registry)
    assert rows and "key" in made


def check_one_life(
    contract: Contract,
    transform: Transform,
    chance: random.Random,
    folder: Path,
    registry: Registry = REGISTRY,
    *,
    crowded: bool = False,
) -> tuple[list[str], int]:
    """Lead the inputs through random steps, deriving and comparing after each; the plans made and the most rows there ever were."""
    settings = Settings(home=folder / "home", project=registry.project)
    lakehouse = Lakehouse(settings)
    con = connect(settings)
    parts: dict[str, Any] = {"lakehouse": lakehouse, "registry": registry, "settings": settings, "con": con}
    derivation = Derivation(contract, transform, **parts)
    fresh = Derivation(replace(contract, name=f"{contract.name}_fresh"), transform, **parts)
    # What tells nobody apart may tell of many people only; what does is counted from a threshold on for one.
    apart = crowded and not _pseudonyms(contract)
    histories = [
        InputHistory(one, lakehouse, chance, _key_paths(transform, one.key), crowded, _pseudonyms(one) if apart else ())
        for one in map(registry.get, transform.inputs)
    ]
    plans: list[str] = []
    told: list[list[str]] = []
    rows = 0
    for number in range(STEPS):
        traced = [history for history in histories if history.contract.key in transform.keys]
        if traced and number == STEPS - 1:  # none of the inputs changes for which all is computed anew
            told.append([history.step(sure=True) for history in traced])
        else:
            told.append([history.step() for history in histories if len(histories) == 1 or chance.random() < 0.7 or not history.commits])
        derived = derivation.stage(run_id=f"run-{number}")
        plans.append(derived.plan)
        commit(derived)
        told_so_far = f"after {told}, plans {plans}: {derived.reason}"
        rows = max(rows, assert_equal_to_recomputed(contract, fresh, lakehouse, con, told_so_far, number))
        assert not derivation.is_behind()
    return plans, rows


def _pseudonyms(contract: Contract) -> list[str]:
    return [path for path, column in contract.walk() if "pii:pseudonym" in column.tags]


def _key_paths(transform: Transform, key: str) -> set[str]:
    """Columns of an input by which the product is traced; few values there make commits touch the same keys."""
    return {expression.replace('"', "") for place in transform.keys.get(key, ()) for expression in place}


def commit(derived: Derived) -> None:
    if derived.staged is not None:
        derived.staged.commit()


def assert_equal_to_recomputed(
    contract: Contract, fresh: Derivation, lakehouse: Lakehouse, con: duckdb.DuckDBPyConnection, told: str, number: int
) -> int:
    commit(fresh.stage(run_id=f"fresh-{number}", recompute=True))
    ours = duckdb_scan_sql(lakehouse.table(contract.identifier))
    theirs = duckdb_scan_sql(lakehouse.table(fresh.contract.identifier))
    con.execute(f"CREATE OR REPLACE TABLE ours AS SELECT * FROM {ours}; CREATE OR REPLACE TABLE theirs AS SELECT * FROM {theirs}")
    extra = con.execute("FROM ours EXCEPT ALL FROM theirs").fetchall()
    missing = con.execute("FROM theirs EXCEPT ALL FROM ours").fetchall()
    assert not extra and not missing, f"{told}\nonly incremental: {extra[:3]}\nonly recomputed: {missing[:3]}"
    return int(con.execute("SELECT count(*) FROM ours").fetchall()[0][0])

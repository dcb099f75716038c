"""Products of one domain computed from nothing, one after the other, beside the same queries bare: what benchmarks of whole systems share.

A product is staged, audited by its contract's checks and committed, as its run does. Bare means from Parquet files of the inputs to
Parquet files of the results: no table, no checks, no position.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from bench.harness import Result, machine
from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.engines.audit import audit
from platform_resources.engines.derivation import Derivation
from platform_resources.engines.duck import connect, create_empty_tables, session
from platform_resources.engines.loading import read_transform
from platform_resources.engines.transform import Transform
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import duckdb_scan_sql
from platform_resources.streams.ingestion import Drain
from platform_resources.streams.log import open_log

LIMIT = "the same queries, bare"
OURS = "all products"


class Chain:
    """A platform of its own in a folder: `inputs` come in, `products` are computed from them in this order; both are names in `domain`."""

    def __init__(self, folder: Path, domain: str, inputs: Sequence[str], products: Sequence[str]) -> None:
        self.folder, self.domain, self.inputs = folder, domain, inputs
        self.settings = Settings(home=folder / "home", project=SOURCE_ROOT, drain_seconds=24 * 3600.0)
        self.registry = Registry.load(SOURCE_ROOT)
        self.lakehouse, self.log = Lakehouse(self.settings), open_log(self.settings)
        self.transforms = {product: self._transform(product) for product in products}
        self.seconds: dict[str, list[float]] = {product: [] for product in products}

    def _transform(self, product: str) -> Transform:
        transform = read_transform(self.registry.get(f"{self.domain}/{product}"), self.registry)
        if transform is None:
            raise SystemExit(f"{self.domain}/{product} has no transform")
        return transform

    def ingest(self) -> float:
        """Drain the log into the tables of all streams; seconds."""
        start = time.perf_counter()
        for product in self.inputs:
            contract = self.registry.get(f"{self.domain}/{product}")
            if contract.is_stream:
                drain = Drain(contract, lakehouse=self.lakehouse, log=self.log, run_id=str(uuid.uuid4()), settings=self.settings)
                done = drain.run(until="end")
                if done.quarantined:
                    raise SystemExit(f"the drain refused {done.quarantined} events of {contract.key}, so this is no measurement: {done}")
        return time.perf_counter() - start

    def export(self) -> None:
        """The inputs as Parquet, for the limit."""
        for product in self.inputs:
            table = self.lakehouse.table(f"{self.domain}.{product}")
            if table is not None:
                with session(self.settings) as con:
                    con.execute(f"COPY (SELECT * FROM {duckdb_scan_sql(table)}) TO '{self._file(product)}' (COMPRESSION zstd)")

    def _file(self, product: str) -> Path:
        return self.folder / f"{product}.parquet"

    def clean(self) -> None:
        """Forget every product that is computed."""
        for product in self.transforms:
            self.lakehouse.drop(f"{self.domain}.{product}")

    def derive(self, product: str) -> str:
        """Compute, audit and commit one product, as its run does; the plan that was made."""
        contract, transform = self.registry.get(f"{self.domain}/{product}"), self.transforms[product]
        derivation = Derivation(contract, transform, lakehouse=self.lakehouse, registry=self.registry, settings=self.settings)
        derived = derivation.stage(run_id=str(uuid.uuid4()))
        if derived.staged is not None:
            with session(self.settings) as con:
                failed = [outcome for outcome in audit(con, derived.staged, contract) if not outcome.passed and outcome.check.blocking]
            if failed:
                raise SystemExit(f"{contract.key} would not be published: {failed}")
            derived.staged.commit()
        return derived.plan

    def run(self) -> None:
        """Every product after the other; the seconds of each are kept."""
        for product in self.transforms:
            start = time.perf_counter()
            self.derive(product)
            self.seconds[product].append(time.perf_counter() - start)

    def bare(self) -> None:
        """The same queries in DuckDB, the same functions in Polars, Parquet to Parquet."""
        with connect(self.settings) as con:
            con.execute(f"CREATE SCHEMA {self.domain}")
            for product in self.inputs:
                if self._file(product).exists():
                    con.execute(f"CREATE VIEW {self.domain}.{product} AS SELECT * FROM '{self._file(product)}'")
                else:
                    definition = table_definition(self.registry.get(f"{self.domain}/{product}"))
                    create_empty_tables(con, {f"{self.domain}.{product}": definition.schema})
            for product, transform in self.transforms.items():
                if transform.function is not None:
                    read = {name: pl.scan_parquet(self._file(key.split("/")[1])) for name, (key, _) in transform.parameters.items()}
                    transform.function(**read).sink_parquet(self._file(product))
                else:
                    con.execute(f"COPY ({transform.text}) TO '{self._file(product)}' (COMPRESSION zstd)")
                con.execute(f"CREATE VIEW {self.domain}.{product} AS SELECT * FROM '{self._file(product)}'")


def line(name: str, seconds: float, rows: int, *, per_second: bool = False) -> Result:
    """A line that is compared with nothing."""
    value, unit = (rows / seconds, "rows/s") if per_second else (seconds, "s")
    return Result(name, value, unit, None, None, None, None, rows, machine())

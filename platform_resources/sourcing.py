"""`source("domain/product")`: the one way to load a product, and `query`, SQL over all of them. Reading only.

A product is read at one snapshot, by the engine's own reader. Following a product live comes later, as a further method.
"""

# ruff: noqa: S608 - SQL is put together here from quoted names and the platform's own texts
from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.table import Table
from sqlglot import exp

from platform_resources.config import Settings, load_settings
from platform_resources.contracts.model import Contract
from platform_resources.contracts.readers import require_reader
from platform_resources.contracts.registry import Registry
from platform_resources.engines.current import current_sql, expanded
from platform_resources.engines.duck import connect, qualified_name, reach_warehouse, session, store_fault, store_faults_told
from platform_resources.engines.sql import close_candidates, parse_query, read_duckdb_error, referenced_tables
from platform_resources.engines.tracing import function_name, product_of
from platform_resources.engines.types import quote
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import arrow_table, branch_unknown, duckdb_scan_sql, parse_when, polars_scan, snapshot_at

if TYPE_CHECKING:
    import polars as pl
    from pyspark.sql import DataFrame, SparkSession

QUARANTINE = "__quarantine"

# Functions of DuckDB that reach past the query: other tables by name, the environment, the session. File access is closed by the
# session itself (allowed_directories); this list keeps a query to the products its FROM names.
_REFUSED_FUNCTIONS = frozenset(
    {"query", "query_table", "getenv", "current_setting", "getvariable", "nextval", "currval", "pg_sleep", "write_log", "which_secret"}
)


@dataclass(frozen=True)
class Source:
    """One product at one snapshot (default: its newest at the time of reading), as the domain `reader` may have it."""

    contract: Contract
    lakehouse: Lakehouse
    when: int | datetime | str | None = None
    reader: str | None = None
    only_current: bool = False

    def at(self, when: int | datetime | str) -> Source:
        """The product as it was: a snapshot id, a time (UTC when it has no zone), ISO-8601 text of one, or as a branch or tag has it.

        A text that is neither id nor time is taken for a name: `refused/<run>` is the write that this run was refused. Whether there is
        such a one shows at reading: `snapshot-unknown`, `branch-unknown`.
        """
        return replace(self, when=parse_when(when) if isinstance(when, str) else when)

    def current(self) -> Source:
        """Of a product with slices the newest one that has rows, of one with a validity the rows that hold.

        Raises:
            PlatformError: `no-current-view`.
        """
        current_sql(self.contract, "")
        return replace(self, only_current=True)

    def duckdb(self, con: duckdb.DuckDBPyConnection | None = None) -> duckdb.DuckDBPyRelation:
        """A DuckDB relation, on `con` (which must have the iceberg extension) or on a session of its own.

        Raises:
            PlatformError: `product-not-materialised`, `snapshot-unknown`, `branch-unknown`, `reader-refused`, `reader-untold`.
        """
        table, snapshot = self._pinned()
        if con is not None:
            reach_warehouse(con, self.lakehouse.settings)
        with store_faults_told():
            rows = duckdb_scan_sql(table, snapshot)
            where = f" WHERE {current_sql(self.contract, rows)}" if self.only_current else ""
            return (con or connect(self.lakehouse.settings)).sql(f"SELECT * FROM {rows}{where}")

    def polars(self) -> pl.LazyFrame:
        """A Polars LazyFrame, read by Polars itself.

        Raises:
            PlatformError: as `duckdb`.
        """
        frame = polars_scan(*self._pinned())
        if not self.only_current:
            return frame
        import polars as pl

        newest = pl.col("_valid_to").is_null() if self.contract.validity else pl.col("_slice") == pl.col("_slice").max()
        return frame.filter(newest)

    def arrow(self) -> pa.Table:
        """The whole product in memory, with the table's exact types.

        Raises:
            PlatformError: as `duckdb`.
        """
        rows = arrow_table(*self._pinned())
        if not self.only_current:
            return rows
        if self.contract.validity:
            return rows.filter(pc.is_null(rows["_valid_to"]))
        return rows.filter(pc.equal(rows["_slice"], pc.max(rows["_slice"]))) if rows.num_rows else rows

    def spark(self, session: SparkSession | None = None) -> DataFrame:
        """A Spark DataFrame, read by Spark's executors, in the platform's session or in one of yours that has the catalog.

        Raises:
            PlatformError: as `duckdb`; `spark-type` for a table with a time of day; what starting a session raises.
        """
        from platform_resources.engines.spark import require_readable, scan, spark_session

        table, snapshot = self._pinned()
        require_readable(table.schema(), self.contract.identifier)
        settings = self.lakehouse.settings
        frame = scan(session or spark_session(settings), settings, self.contract.identifier, snapshot)
        if not self.only_current:
            return frame
        if self.contract.validity:
            return frame.where("_valid_to IS NULL")
        from pyspark.sql.functions import lit

        newest = frame.agg({"_slice": "max"}).first()
        return frame.where(frame["_slice"].eqNullSafe(lit(newest[0] if newest else None)))

    def _pinned(self) -> tuple[Table, int | None]:
        require_reader(self.contract, self.reader)
        table = self.lakehouse.table(self.contract.identifier)
        if table is None:
            raise not_materialised(self.contract)
        return table, snapshot_at(table, self.when) if self.when is not None else table.metadata.current_snapshot_id


def not_materialised(contract: Contract) -> PlatformError:
    """The sentence for a product whose table does not exist yet."""
    command = "ingest" if contract.is_stream or contract.lands else "run"
    own = contract.source is not None and contract.source.kind == "platform"
    made = "sdp maintain" if own else f"sdp {command} {contract.key}"
    return PlatformError("product-not-materialised", f"{contract.key} has no table yet.", f"Make it with `{made}`.")


def source(
    key: str,
    *,
    settings: Settings | None = None,
    registry: Registry | None = None,
    lakehouse: Lakehouse | None = None,
    reader: str | None = None,
) -> Source:
    """A product by its key `domain/product`; without arguments, of the platform that the environment describes.

    `reader` is the domain that reads, where the product says who may; default: that of the settings (`SDP_DOMAIN`).

    Raises:
        PlatformError: `product-unknown`.
    """
    settings = settings or (lakehouse.settings if lakehouse is not None else load_settings())
    registry = registry or Registry.load(settings.project)
    return Source(registry.get(key), lakehouse or Lakehouse(settings), reader=reader or settings.domain)


def query(
    sql: str,
    settings: Settings,
    registry: Registry,
    *,
    include_quarantine: bool = False,
    branch: str | None = None,
    lakehouse: Lakehouse | None = None,
    reader: str | None = None,
) -> pa.Table:
    """Run one read-only query in which every product is a view `domain.product`.

    Only the products the query names are attached. The session reads no file outside the warehouse and no network; what is not one
    SELECT over products is refused before it runs.

    Args:
        sql: one query in DuckDB's dialect.
        settings: where the platform's state is.
        registry: the contracts.
        include_quarantine: let `domain.product__quarantine` be read; those tables hold what producers sent, unchecked.
        branch: a branch or tag; the products that have it are read there, all others at main.
        lakehouse: the catalog to use instead of the settings' own.
        reader: the domain that asks; default that of the settings.

    Raises:
        PlatformError: `reader-refused`, `reader-untold`,
            `query-refused`, `sql-syntax`, `sql-not-one-query`, `sql-bare-name`, `sql-three-part-name`, `sql-reads-file`,
            `product-unknown`, `product-not-materialised`, `branch-unknown`, `query-invalid`.
    """
    tree = parse_query(sql)
    if (written := expanded(sql, referenced_tables(tree), registry)) != sql:
        sql, tree = written, parse_query(written)
    names = list(dict.fromkeys(product_of(table) for table in referenced_tables(tree)))
    _refuse_functions(tree)
    lakehouse = lakehouse or Lakehouse(settings)
    for name in names:
        require_reader(registry.get(name.removesuffix(QUARANTINE)), reader or settings.domain)
    tables = {name: _table(name, registry, lakehouse, include_quarantine) for name in names}
    if branch is not None and not any(branch in table.metadata.refs for table in tables.values()):
        raise branch_unknown(branch, list(tables.values()))
    with session(settings) as con:
        for name, table in tables.items():
            pinned = snapshot_at(table, branch) if branch is not None and branch in table.metadata.refs else None
            con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(name.partition('.')[0])}")
            con.execute(f"CREATE VIEW {qualified_name(name)} AS SELECT * FROM {duckdb_scan_sql(table, pinned)}")
        _lock(con, settings)
        try:
            statements = con.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise PlatformError("query-refused", "The text is no query that only reads.", "Ask with one SELECT.")
            return con.execute(statements[0]).to_arrow_table()
        except duckdb.Error as error:
            if store_fault(error) is not None:
                raise  # told by the session
            raise _invalid(error, sql) from None


def _table(name: str, registry: Registry, lakehouse: Lakehouse, include_quarantine: bool) -> Table:
    contract = registry.get(name.removesuffix(QUARANTINE))
    if name.endswith(QUARANTINE) and not include_quarantine:
        raise PlatformError(
            "query-refused", f"{name} holds unchecked events and is not read by default.", "Ask for it with --include-quarantine."
        )
    table = lakehouse.table(name)
    if table is None:
        if name.endswith(QUARANTINE):
            raise PlatformError("product-not-materialised", f"{name} has no table yet.", f"Nothing of {contract.key} was ever quarantined.")
        raise not_materialised(contract)
    return table


def _refuse_functions(tree: exp.Query) -> None:
    for call in tree.find_all(exp.Func):
        name = function_name(call)
        if name in _REFUSED_FUNCTIONS or name.startswith(("pragma_", "duckdb_", "read_")):
            raise PlatformError("query-refused", f"The function {name}() is not offered in queries.", "Ask with plain SQL over products.")


def _lock(con: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """From here the session reaches the warehouse only, whatever a text says that sqlglot understood otherwise than DuckDB."""
    root = settings.warehouse_uri.removeprefix("file://")
    con.execute("SET allowed_directories = ['" + root.replace("'", "''") + "/']")
    con.execute("SET enable_external_access = false")
    con.execute("SET errors_as_json = true")
    con.execute("SET lock_configuration = true")


def _invalid(error: duckdb.Error, sql: str) -> PlatformError:
    message, line = read_duckdb_error(error, sql)
    close = close_candidates(error)
    remedy = f"Did you mean {' or '.join(close)}?" if close else "Correct the query."
    return PlatformError("query-invalid", f"Line {line}: {message}" if line > 1 else message, remedy)

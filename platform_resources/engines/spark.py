"""Spark sessions over the lakehouse, and what goes in and out of them: tables at a snapshot, some files of one, Arrow both ways.

One JVM serves a process; each set of settings has a session of its own in it, with its own catalog. The configuration is made here
for everybody: for a plain session as for Dagster's `PySparkResource`. What is computed is no concern of this module.

Spark computes, the platform's own writer writes: one commit with the stamp in its summary, fenced by the position, audited before it
is published (laws 1 to 5), is nothing that Spark's writer can be told to do. It commits by itself, retries by itself on whatever head
it finds, and leaves no moment between written and published.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import DecimalType, FixedType, IcebergType, ListType, MapType, StructType, TimeType

from platform_resources.addresses import database_address
from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.stack.maven import SPARK_NEWEST_JAVA, fetch_jars, jar_folder, require_java

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

POM = Path(__file__).parent.parent / "stack" / "spark.pom.xml"
BATCH_ROWS = 10_000
BATCHES_AT_ONCE = 8  # of the result in the driver's memory; 80,000 rows
RESERVED = ("_partition", "_file", "_pos", "_deleted", "_spec_id")  # Iceberg's own in Spark: it refuses to read a column so named
_EXTENSIONS = "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"

_sessions: dict[Any, SparkSession] = {}
_lock = threading.Lock()


def spark_jars(settings: Settings) -> str:
    """The jars that a session needs, comma-separated, fetched by Maven when they are not in the cache yet.

    Raises:
        PlatformError: `maven-missing`, `stack-install-failed`.
    """
    if settings.spark_jars:
        return settings.spark_jars
    folder = fetch_jars(settings, POM, "Spark's access to Iceberg", "sdp stack up spark")
    return ",".join(str(jar) for jar in sorted(folder.glob("*.jar")))


def have_jars(settings: Settings) -> bool:
    """Whether a session can start without fetching anything."""
    return bool(settings.spark_jars or settings.spark_packages) or jar_folder(settings, POM).is_dir()


def launch_conf(settings: Settings) -> dict[str, str]:
    """What the JVM is started with. It stands on a command line that every user of the machine can read: no secrets, no catalog, of
    whichever name (`catalog_conf` has them).
    """
    local = settings.spark_master.startswith("local")
    conf = {
        "spark.master": settings.spark_master,
        "spark.app.name": "shared-data-platform",
        "spark.driver.memory": settings.spark_driver_memory,
        "spark.driver.host": settings.spark_driver_host,
        "spark.driver.bindAddress": settings.spark_driver_host,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.extensions": _EXTENSIONS,
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.timestampType": "TIMESTAMP_LTZ",
        # decimals keep their scale where the exact type would pass 38 digits, as in DuckDB: too great a number is an error, none is rounded
        "spark.sql.decimalOperations.allowPrecisionLoss": "false",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(BATCH_ROWS),
        "spark.sql.catalogImplementation": "in-memory",
        # it asks for a table's statistics by a scan of all columns, which Iceberg refuses where one has a name of RESERVED
        "spark.sql.optimizer.excludedRules": "org.apache.spark.sql.catalyst.optimizer.PushDownLeftSemiAntiJoin",
        # local disk of driver and executors, for shuffles and spilling
        "spark.local.dir": str(settings.home / "tmp" / "spark"),
        "spark.sql.warehouse.dir": str(settings.home / "tmp" / "spark-warehouse"),
        **({"spark.jars.packages": settings.spark_packages} if settings.spark_packages else {"spark.jars": spark_jars(settings)}),
    }
    wanted = {
        "spark.executor.instances": settings.spark_executors,
        "spark.executor.cores": settings.spark_executor_cores,
        "spark.executor.memory": settings.spark_executor_memory,
        "spark.sql.shuffle.partitions": settings.spark_shuffle_partitions or (os.cpu_count() if local else None),
    }
    if settings.spark_executors and settings.spark_executor_cores:  # a standalone master counts cores only
        wanted["spark.cores.max"] = settings.spark_executors * settings.spark_executor_cores
    if settings.spark_dynamic_allocation:
        wanted |= {
            "spark.dynamicAllocation.enabled": "true",
            "spark.dynamicAllocation.shuffleTracking.enabled": "true",
            "spark.dynamicAllocation.minExecutors": settings.spark_min_executors,
            "spark.dynamicAllocation.maxExecutors": settings.spark_max_executors,
        }
    return {**conf, **{name: str(value) for name, value in wanted.items() if value is not None}, **_own_conf(settings, catalogs=False)}


_CATALOGS = "spark.sql.catalog."


def _own_conf(settings: Settings, *, catalogs: bool) -> dict[str, str]:
    """What SDP_SPARK_CONF says of catalogs, keys and tokens among it, or of all else."""
    return {name: value for name, value in settings.spark_conf.items() if name.startswith(_CATALOGS) == catalogs}


def catalog_conf(settings: Settings) -> dict[str, str]:
    """The same catalog as PyIceberg's, in the words of Iceberg's Java: properties of one session, secrets among them.

    Spark's catalog has the name of PyIceberg's: a SQL catalog stores it with each table. Schema V1 is what PyIceberg writes.
    """
    prefix = f"{_CATALOGS}{settings.catalog_name}"
    store, own = settings.object_store, _own_conf(settings, catalogs=True)
    conf = {
        prefix: "org.apache.iceberg.spark.SparkCatalog",
        f"{prefix}.warehouse": settings.warehouse_uri,
        f"{prefix}.cache-enabled": "false",  # another process may commit at any time
        **({} if store is None else store.spark(settings.catalog_name)),
    }
    if settings.catalog_type == "rest":
        return {**conf, f"{prefix}.type": "rest", f"{prefix}.uri": settings.catalog_address, **own}
    address, user, password = jdbc_address(settings.catalog_address)
    conf |= {f"{prefix}.type": "jdbc", f"{prefix}.uri": address, f"{prefix}.jdbc.schema-version": "V1"}
    return {**conf, **{f"{prefix}.jdbc.{name}": value for name, value in (("user", user), ("password", password)) if value}, **own}


def jdbc_address(uri: str) -> tuple[str, str, str]:
    """A SQLAlchemy URI as JDBC's, with user and password apart.

    Raises:
        ValueError: it is no address of PostgreSQL or SQLite.
    """
    url = database_address(uri)
    query = {name: value for name, value in url.query.items() if name not in ("user", "password")}
    user, password = (given or str(url.query.get(name, "")) for name, given in (("user", url.username), ("password", url.password)))
    if url.get_backend_name() == "sqlite":
        return f"jdbc:sqlite:{url.database}?busy_timeout=60000", "", ""
    host = f"[{url.host}]" if ":" in (url.host or "") else url.host or "localhost"
    place = f"{host}:{url.port}" if url.port else host
    more = f"?{urlencode(query, doseq=True)}" if query else ""
    return f"jdbc:postgresql://{place}/{quote(url.database or '', safe='')}{more}", user, password


def spark_session(settings: Settings, base: Callable[[], SparkSession] | None = None) -> SparkSession:
    """A session with the catalog of these settings, made once for each; the JVM starts with the first (5 to 15 s).

    Args:
        settings: the lakehouse, and for the first session the cluster.
        base: gives a session that somebody else makes from `launch_conf`, e.g. Dagster's resource.

    Raises:
        PlatformError: `java-missing`, `maven-missing`, `stack-install-failed`, `spark-start-failed`.
    """
    with _lock:
        started = _start(settings, base)
        conf = catalog_conf(settings)
        key = (started.sparkContext.applicationId, tuple(sorted(conf.items())))
        if key not in _sessions:
            session = started.newSession()
            for name, value in conf.items():
                session.conf.set(name, value)
            _sessions[key] = session
        return _sessions[key]


class Spark:
    """Spark as a run uses it; no JVM starts before the session is asked for.

    Args:
        settings: the lakehouse and the cluster.
        base: gives the session to build on, e.g. that of Dagster's `PySparkResource`; default: one of our own.
    """

    def __init__(self, settings: Settings, base: Callable[[], SparkSession] | None = None) -> None:
        self.settings, self._base = settings, base

    @property
    def session(self) -> SparkSession:
        """The session with the lakehouse's catalog.

        Raises:
            PlatformError: as `spark_session`.
        """
        return spark_session(self.settings, self._base)


def _start(settings: Settings, base: Callable[[], SparkSession] | None) -> SparkSession:
    prepare_machine(settings)
    try:
        return base() if base is not None else _own_session(settings)
    except PlatformError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        said = next((line.removeprefix(": ") for line in lines if line.startswith(": ")), lines[0])  # the JVM's words, without its stack
        said = re.sub(r"^[\w.$]+(?:Exception|Error): ", "", said).rstrip(".")
        raise PlatformError(
            "spark-start-failed", f"Spark did not start on {settings.spark_master}: {said}.", "See SDP_SPARK_MASTER and the cluster's log."
        ) from error


def _own_session(settings: Settings) -> SparkSession:
    from pyspark.sql import SparkSession

    running = SparkSession.getActiveSession()
    if running is not None:
        return running
    builder = SparkSession.builder
    for name, value in launch_conf(settings).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def prepare_machine(settings: Settings) -> None:
    """What has to hold before a JVM is launched: there is a Java, its folders are there, it does not look for the machine's own address.

    Raises:
        PlatformError: `java-missing`, `java-unfit`.
    """
    require_java("Spark", newest=SPARK_NEWEST_JAVA, home=os.environ.get("JAVA_HOME"))
    (settings.home / "tmp" / "spark").mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("SPARK_LOCAL_IP", settings.spark_driver_host)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)


def table_name(settings: Settings, identifier: str) -> str:
    """`domain.product` as Spark names it."""
    return ".".join(f"`{part}`" for part in (settings.catalog_name, *identifier.split(".")))


def scan(session: SparkSession, settings: Settings, identifier: str, snapshot_id: int | None) -> DataFrame:
    """The table at a snapshot, read by Spark itself; without the columns that have a name of RESERVED."""
    reader = session.read.format("iceberg")
    if snapshot_id is not None:
        reader = reader.option("versionAsOf", str(snapshot_id))
    return reader.load(table_name(settings, identifier)).drop(*RESERVED)


def scan_files(session: SparkSession, settings: Settings, identifier: str, snapshot_id: int, paths: Sequence[str]) -> DataFrame | None:
    """The rows of just these data files, read by Spark itself; None when the snapshot has one of them no more (it was compacted).

    Iceberg's own mechanism for reading a set of files (that of `rewrite_data_files`): the tasks are handed over inside the JVM.
    """
    jvm: Any = session._jvm  # noqa: SLF001 - there is no other way to Iceberg's Java
    table = jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(session._jsparkSession, table_name(settings, identifier))  # noqa: SLF001
    wanted, tasks = set(paths), jvm.java.util.ArrayList()
    planned = table.newScan().useSnapshot(snapshot_id).planFiles()
    try:
        iterator = planned.iterator()
        while iterator.hasNext():
            task = iterator.next()
            path = task.file().location()
            if path in wanted:
                wanted.discard(path)
                tasks.add(task)
    finally:
        planned.close()
    if wanted:
        return None
    name = uuid.uuid4().hex
    _table_cache(jvm, session.sparkContext._gateway).add(name, table)  # noqa: SLF001
    jvm.org.apache.iceberg.spark.ScanTaskSetManager.get().stageTasks(table, name, tasks)
    return session.read.format("iceberg").load(name).drop(*RESERVED)


def _table_cache(jvm: Any, gateway: Any) -> Any:
    """`SparkTableCache.get()`, by reflection: Py4J does not see a static method that has an instance method of the same name beside it."""
    found = jvm.py4j.reflection.ReflectionUtil.classForName("org.apache.iceberg.spark.SparkTableCache")
    return found.getMethod("get", gateway.new_array(jvm.java.lang.Class, 0)).invoke(None, gateway.new_array(jvm.java.lang.Object, 0))


def from_arrow(session: SparkSession, data: pa.Table) -> DataFrame:
    """Rows from here as a frame; they pass through the driver's memory."""
    return session.createDataFrame(_plain(data))


def _plain(data: pa.Table) -> pa.Table:
    """Without Arrow's extension types, which Spark does not know: a uuid is its text there, as Iceberg gives it to Spark."""
    for position, column in enumerate(data.columns):
        if isinstance(column.type, pa.BaseExtensionType):
            texts = [None if value is None else str(value) for value in column.to_pylist()]
            data = data.set_column(position, data.field(position).name, pa.array(texts, pa.string()))
    return data


def to_reader(frame: DataFrame) -> pa.RecordBatchReader:
    """A frame's rows as Arrow batches, with bounded memory here whatever their number.

    The result is computed once, by all executors at a time, to their disks; then `BATCHES_AT_ONCE` batches come over at a time.
    `DataFrame.toArrow` would take all of them into the driver, `toLocalIterator` a whole partition, and row by row.
    """
    from pyspark.sql.pandas.types import to_arrow_schema

    schema = to_arrow_schema(frame.schema)
    session = frame.sparkSession
    level = session._jvm.org.apache.spark.storage.StorageLevel.DISK_ONLY()  # type: ignore[union-attr]  # noqa: SLF001
    blocks = frame._jdf.toArrowBatchRdd().toJavaRDD()  # noqa: SLF001 - the JVM's side of toArrow
    blocks.persist(level)
    try:
        count = blocks.count()
    except BaseException:
        blocks.unpersist()
        raise

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            if count:
                for block in _iterate(session, blocks.repartition(-(-count // BATCHES_AT_ONCE))):
                    yield pa.ipc.read_record_batch(pa.py_buffer(block), schema)
        finally:
            with suppress(Exception):  # the JVM may be gone
                blocks.unpersist()

    return pa.RecordBatchReader.from_batches(schema, batches())


def _iterate(session: SparkSession, blocks: Any) -> Iterator[bytes]:
    """The byte arrays of a JVM's RDD, one partition at a time."""
    from pyspark.rdd import _local_iterator_from_socket  # type: ignore[import-not-found]
    from pyspark.serializers import NoOpSerializer

    served = session._jvm.PythonRDD.toLocalIteratorAndServe(blocks.rdd(), False)  # type: ignore[union-attr]  # noqa: SLF001
    blobs: Iterator[bytes] = _local_iterator_from_socket(served, NoOpSerializer())
    return blobs


def spark_type(kind: IcebergType) -> str:
    """The Spark type, as SQL text, of an Iceberg type as Iceberg gives it to Spark."""
    if isinstance(kind, StructType):
        return "STRUCT<" + ", ".join(f"`{one.name}`: {spark_type(one.field_type)}" for one in kind.fields) + ">"
    if isinstance(kind, ListType):
        return f"ARRAY<{spark_type(kind.element_type)}>"
    if isinstance(kind, MapType):
        return f"MAP<{spark_type(kind.key_type)}, {spark_type(kind.value_type)}>"
    if isinstance(kind, DecimalType):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if isinstance(kind, FixedType):
        return "BINARY"
    return _SPARK_TYPES[str(kind)]


_SPARK_TYPES: Mapping[str, str] = {
    "boolean": "BOOLEAN", "int": "INT", "long": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "date": "DATE",
    "timestamp": "TIMESTAMP_NTZ", "timestamptz": "TIMESTAMP", "string": "STRING", "uuid": "STRING", "binary": "BINARY",
}  # fmt: skip


def require_readable(schema: Schema, identifier: str) -> None:
    """See that Iceberg gives every column to Spark: it has no time of day there.

    Raises:
        PlatformError: `spark-type`.
    """
    for path in sorted(schema._name_to_id):  # noqa: SLF001
        if isinstance(schema.find_type(path), TimeType):
            raise PlatformError(
                "spark-type", f"The column {path} of {identifier} is a time of day, which Iceberg does not give to Spark.",
                "Read it with DuckDB, Polars or Arrow, or store it as text or as a number.",
            )  # fmt: skip


def empty_frame(session: SparkSession, schema: Schema) -> DataFrame:
    """A schema's columns, as `scan` gives them, and no rows."""
    columns = ", ".join(f"`{one.name}` {spark_type(one.field_type)}" for one in schema.fields if one.name not in RESERVED)
    return session.createDataFrame([], columns)

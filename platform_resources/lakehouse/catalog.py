"""The catalog of this platform instance: which tables exist, creating and dropping them. Rows are written in `staging`.

Here too are the few changes that PyIceberg's SQL catalog needs so that many processes can share one SQLite file.
"""

from __future__ import annotations

import fcntl
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic import ValidationError as InvalidModel
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    NamespaceAlreadyExistsError,
    NoSuchTableError,
    TableAlreadyExistsError,
    ValidationError,
)
from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestContent
from pyiceberg.serializers import Compressor, FromInputFile
from pyiceberg.table import CommitTableResponse, StagedTable, Table, TableProperties
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot
from pyiceberg.table.update import TableRequirement, TableUpdate, ValidatableTableRequirement
from sqlalchemy import ColumnElement, create_engine, event, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import TableDefinition
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog_server import CatalogUnreachable, PatientRestCatalog, one_maker, postgresql_engine
from platform_resources.lakehouse.file_io import delete_files
from platform_resources.lakehouse.transaction import Append, StagingTransaction, apply_updates

# Manifests are merged and old metadata files deleted as commits go by: without it a thousand small commits cost 0.6 s each.
PLATFORM_PROPERTIES = {
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "8",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
}
MANAGED_PROPERTY = "sdp.managed-properties"
_BUSY_SECONDS = 60


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Processes pass here one after another; only for the moments in which SQLite's own waiting does not hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _MetadataCache:
    """The last parsed metadata files by location: they never change, and parsing one of a thousand snapshots takes 30 ms."""

    def __init__(self, size: int = 64) -> None:
        self._size, self._entries, self._lock = size, OrderedDict[str, TableMetadata](), threading.Lock()

    def get(self, location: str) -> TableMetadata | None:
        with self._lock:
            found = self._entries.get(location)
            if found is not None:
                self._entries.move_to_end(location)
            return found

    def put(self, location: str, metadata: TableMetadata) -> None:
        with self._lock:
            self._entries[location] = metadata
            self._entries.move_to_end(location)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)


class _SnapshotTexts:
    """Snapshots as JSON, kept from commit to commit: of a thousand in a metadata file all but one stood in the one before.

    Writing them anew takes 10 ms of each commit.
    """

    _EMPTY = '"snapshots":[]'

    def __init__(self, size: int = 20_000) -> None:
        self._size, self._entries, self._lock = size, OrderedDict[int, tuple[Snapshot, str]](), threading.Lock()

    def json_of(self, metadata: TableMetadata) -> str:
        """The metadata file's text."""
        text = metadata.model_copy(update={"snapshots": []}).model_dump_json()
        if text.count(self._EMPTY) != 1 or not metadata.snapshots:
            return metadata.model_dump_json()
        return text.replace(self._EMPTY, '"snapshots":[' + ",".join(map(self._text, metadata.snapshots)) + "]")

    def _text(self, snapshot: Snapshot) -> str:
        with self._lock:
            known = self._entries.get(snapshot.snapshot_id)
            if known is None or known[0] is not snapshot:
                known = self._entries[snapshot.snapshot_id] = (snapshot, snapshot.model_dump_json())
                while len(self._entries) > self._size:
                    self._entries.popitem(last=False)
            return known[1]


class _LastWritten(threading.local):
    """The metadata file this thread wrote last, to be deleted when its commit loses."""

    path: str | None = None
    io: Any = None


_last_written = _LastWritten()
_snapshot_texts = _SnapshotTexts()


class PlatformSqlCatalog(SqlCatalog):
    """PyIceberg's SQL catalog for many processes: SQLite waits instead of failing, a lost race leaves no metadata file behind."""

    def __init__(self, name: str, home: Path, **properties: str) -> None:
        self._cache = _MetadataCache()
        self._sqlite = properties["uri"].startswith("sqlite")
        self._home = home
        super().__init__(name, **properties)

    def _init_catalog(self) -> None:
        if not self._sqlite:
            self.engine = postgresql_engine(self.properties["uri"])
            with one_maker(self.engine):
                super()._init_catalog()
            return
        # PyIceberg made an engine that waits 5 s for a busy file; replaced before its first use.
        self.engine = create_engine(self.properties["uri"], connect_args={"timeout": _BUSY_SECONDS})

        @event.listens_for(self.engine, "connect")
        def _durable(connection: Any, _record: Any) -> None:
            connection.execute("PRAGMA synchronous=FULL")

        # Neither the switch to WAL nor CREATE TABLE waits for another process doing the same.
        with _one_at_a_time(self._home / "locks" / "catalog.lock"):
            with self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            super()._init_catalog()

    def _convert_orm_to_iceberg(self, orm_table: IcebergTables) -> Table:
        location = orm_table.metadata_location
        metadata = self._cache.get(location) if location else None
        if metadata is None or not location:
            table: Table = super()._convert_orm_to_iceberg(orm_table)
            self._cache.put(table.metadata_location, table.metadata)
            return table
        identifier = (*Catalog.identifier_to_tuple(orm_table.table_namespace), orm_table.table_name)
        return Table(identifier, metadata, location, self._load_file_io(metadata.properties, location), self)

    def load_table(self, identifier: Any) -> Table:
        """The table at its newest metadata."""
        for _ in range(20):
            try:
                return super().load_table(identifier)
            except FileNotFoundError:  # the file was superseded and deleted between the row's read and the file's
                continue
            except CatalogUnreachable:  # the connection was lost in the middle; a new one has been waited for already
                break
            except (ValueError, ValidationError) as error:
                raise _damaged(identifier, error) from None
        try:
            return super().load_table(identifier)
        except (FileNotFoundError, ValueError, ValidationError) as error:
            raise _damaged(identifier, error) from None

    def metadata_locations(self, identifier: str) -> tuple[str | None, str | None]:
        """Locations of a table's newest metadata file and of the one that it replaced, as the catalog's own row has them."""
        columns = select(IcebergTables.metadata_location, IcebergTables.previous_metadata_location)
        with Session(self.engine) as session:
            row = session.execute(columns.where(*self._row_of(identifier))).first()
        return (None, None) if row is None else (row[0], row[1])

    def go_on_from(self, identifier: str, location: str, *, instead_of: str) -> Table:
        """Make an earlier metadata file, if it can be read, a table's newest in the place of one that cannot.

        Raises:
            CommitFailedException: the newest is another one by now.
        """
        metadata = FromInputFile.table_metadata(self._load_file_io(location=location).new_input(location))
        before = metadata.metadata_log[-1].metadata_file if metadata.metadata_log else None
        row = update(IcebergTables).where(*self._row_of(identifier), IcebergTables.metadata_location == instead_of)
        with self.engine.begin() as connection:
            changed = connection.execute(row.values(metadata_location=location, previous_metadata_location=before)).rowcount
        if changed != 1:
            raise CommitFailedException(f"The newest metadata file of {identifier} is no longer {instead_of}")
        return self.load_table(identifier)

    def _row_of(self, identifier: str) -> tuple[ColumnElement[bool], ...]:
        namespace, _, name = identifier.rpartition(".")
        table = IcebergTables
        return table.catalog_name == self.name, table.table_namespace == namespace, table.table_name == name

    def _update_and_stage_table(
        self,
        current_table: Table | None,
        table_identifier: Any,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> StagedTable:
        if current_table is None:
            return super()._update_and_stage_table(current_table, table_identifier, requirements, updates)
        for requirement in requirements:
            requirement.validate(current_table.metadata)
        metadata = apply_updates(current_table.metadata, updates, current_table.metadata_location)
        version = self._parse_metadata_version(current_table.metadata_location) + 1
        location = load_location_provider(metadata.location, metadata.properties).new_table_metadata_file_location(version)
        return StagedTable(table_identifier, metadata, location, self._load_file_io(metadata.properties, location), self)

    @staticmethod
    def _write_metadata(metadata: TableMetadata, io: FileIO, metadata_path: str) -> None:
        with io.new_output(metadata_path).create() as stream:
            stream.write(Compressor.get_compressor(metadata_path).bytes_compressor()(_snapshot_texts.json_of(metadata).encode()))
        _last_written.path, _last_written.io = metadata_path, io

    @staticmethod
    def _delete_old_metadata(io: FileIO, base: TableMetadata, metadata: TableMetadata) -> None:
        if metadata.properties.get(TableProperties.METADATA_DELETE_AFTER_COMMIT_ENABLED) == "true":
            kept = {entry.metadata_file for entry in metadata.metadata_log}
            delete_files(io, [one.metadata_file for one in base.metadata_log if one.metadata_file not in kept])

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Commit; the metadata file of a commit that lost its race is deleted."""
        _last_written.path = None
        try:
            response = super().commit_table(table, requirements, updates)
        except (CommitFailedException, TableAlreadyExistsError):
            if _last_written.path:
                with suppress(OSError):
                    _last_written.io.delete(_last_written.path)
            raise
        self._cache.put(response.metadata_location, response.metadata)
        return response


def _damaged(identifier: Any, error: Exception) -> PlatformError:
    name = ".".join(Catalog.identifier_to_tuple(identifier))
    return PlatformError(
        "metadata-damaged",
        f"The newest metadata file of {name} cannot be read: {_reason(error)}.",
        f"Put the file back from a backup, or go on from the one before it with `sdp table restore {name.replace('.', '/', 1)}`.",
    )


def _reason(error: Exception) -> str:
    """What is wrong with the file, without the parser's own words around it (its class, its links)."""
    if isinstance(error, FileNotFoundError):
        return "it is not there"
    parsed = next((one for one in (error, error.__cause__) if isinstance(one, InvalidModel)), None)
    if parsed is None:
        return " ".join(str(error).split())[:200].rstrip(".")
    first = parsed.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])


class LocalRequirement(ValidatableTableRequirement):
    """A requirement that the Iceberg specification does not know, held by this process.

    The SQL catalogs validate it against the very metadata they replace. A REST catalog never sees it: there it is held against the
    newest metadata just before the commit, which leaves some milliseconds.
    """

    type: str = Field(default="local")


class AssertUnreferenced(LocalRequirement):
    """No branch or tag points at any of these snapshots."""

    snapshot_ids: tuple[int, ...]

    def validate(self, base_metadata: TableMetadata | None) -> None:  # type: ignore[override]
        """Refuse when one does."""
        held = {ref.snapshot_id for ref in base_metadata.refs.values()} if base_metadata is not None else set()
        if held & set(self.snapshot_ids):
            raise CommitFailedException("Requirement failed: a branch or tag has come to a snapshot that was to go")


class AssertSnapshotKnown(LocalRequirement):
    """The table still has this snapshot."""

    snapshot_id: int

    def validate(self, base_metadata: TableMetadata | None) -> None:  # type: ignore[override]
        """Refuse when it has expired."""
        if base_metadata is None or base_metadata.snapshot_by_id(self.snapshot_id) is None:
            raise CommitFailedException(f"Requirement failed: the table has no snapshot {self.snapshot_id}")


class AssertProperty(LocalRequirement):
    """A table property still has the value that was read."""

    name: str
    value: str | None

    def validate(self, base_metadata: TableMetadata | None) -> None:  # type: ignore[override]
        """Refuse when another changed it."""
        if base_metadata is None or base_metadata.properties.get(self.name) != self.value:
            raise CommitFailedException(f"Requirement failed: the property {self.name} is no longer {self.value!r}")


class Lakehouse:
    """Tables of one platform instance, by the identifier `domain.product`.

    Cheap to make; the catalog is opened at first use. Objects are not shared between processes: make one in each.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._catalog: Catalog | None = None
        self._lock = threading.Lock()

    @property
    def catalog(self) -> Catalog:
        """The PyIceberg catalog."""
        with self._lock:
            if self._catalog is None:
                properties = self.settings.catalog_properties()
                if properties.pop("type") == "sql":
                    self.settings.home.mkdir(parents=True, exist_ok=True)
                    self._catalog = PlatformSqlCatalog(self.settings.catalog_name, self.settings.home, **properties)
                else:
                    self._catalog = PatientRestCatalog(self.settings.catalog_name, **properties)
            return self._catalog

    def table(self, identifier: str) -> Table | None:
        """The table at its newest metadata, None when it does not exist."""
        try:
            return self.catalog.load_table(identifier)
        except NoSuchTableError:
            return None

    def create(self, definition: TableDefinition) -> Table:
        """Namespace, table and an empty first snapshot, in one commit; the existing table if there is one.

        The first snapshot is there so that a first write which is refused can be kept on a branch.
        """
        existing = self.table(definition.identifier)
        if existing is not None:
            return existing
        with suppress(NamespaceAlreadyExistsError, IntegrityError):
            self.catalog.create_namespace(definition.identifier.rpartition(".")[0])
        try:
            self._create(definition)
        except (TableAlreadyExistsError, CommitFailedException):  # another made it, at any moment of this
            existing = self.table(definition.identifier)
            if existing is None:
                raise
            return existing
        created = self.table(definition.identifier)
        if created is None:  # dropped in the same moment: the caller's next step says so
            raise NoSuchTableError(definition.identifier)
        return created

    def _create(self, definition: TableDefinition) -> None:
        staged = self.catalog.create_table_transaction(
            definition.identifier,
            definition.schema,
            location=f"{self.settings.warehouse_uri}/{definition.identifier.replace('.', '/')}",
            partition_spec=definition.partition_spec,
            sort_order=definition.sort_order,
            properties=managed_properties(definition),
        )
        transaction = StagingTransaction.of(staged)
        with Append(operation=Operation.APPEND, transaction=transaction, io=transaction.io) as append:
            pass
        try:
            transaction.commit_creation()
        except (TableAlreadyExistsError, CommitFailedException):
            append.abandon()
            raise

    def commit_updates(
        self, table: Table, updates: tuple[TableUpdate, ...], requirements: tuple[TableRequirement | LocalRequirement, ...]
    ) -> None:
        """Commit changes of the metadata that no staged write makes (references, properties, expiry); `table` is then the new state.

        Raises:
            CommitFailedException: a requirement does not hold.
            ValueError, BadRequestError: an update names what the newest metadata does not have.
        """
        local = [one for one in requirements if isinstance(one, LocalRequirement)]
        if local and not isinstance(self.catalog, SqlCatalog):
            fresh = self.catalog.load_table(table.name())
            for one in local:
                one.validate(fresh.metadata)
            requirements = tuple(one for one in requirements if not isinstance(one, LocalRequirement))
        table._do_commit(updates, requirements)  # type: ignore[arg-type]  # noqa: SLF001 - a transaction would add requirements of its own

    def identifiers(self) -> list[str]:
        """Every table's identifier, sorted."""
        return sorted(
            ".".join(identifier) for namespace in self.catalog.list_namespaces() for identifier in self.catalog.list_tables(namespace)
        )

    def drop(self, identifier: str) -> None:
        """Drop the table and delete its files; nothing happens when it does not exist."""
        table = self.table(identifier)
        if table is None:
            return
        with suppress(NoSuchTableError):
            self.catalog.drop_table(identifier)
        delete_files(table.io, _files_of(table))


def managed_properties(definition: TableDefinition) -> dict[str, str]:
    """The table properties that the platform sets, with the list of their names, so that a later write removes only its own."""
    own = {**PLATFORM_PROPERTIES, **definition.properties}
    return {**own, MANAGED_PROPERTY: " ".join(sorted(own))}


def _files_of(table: Table) -> Iterator[str]:
    """Every file the newest metadata knows of: data, manifests, manifest lists, metadata."""
    manifests, data = set[str](), set[str]()
    for snapshot in table.metadata.snapshots:
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path not in manifests:
                manifests.add(manifest.manifest_path)
                if manifest.content in (ManifestContent.DATA, ManifestContent.DELETES):
                    data.update(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False))
    yield from data
    yield from manifests
    yield from (snapshot.manifest_list for snapshot in table.metadata.snapshots)
    yield from (entry.metadata_file for entry in table.metadata.metadata_log)
    yield table.metadata_location

"""The one typed settings object: which profile runs, where state lies, how the outside is reached.

Everything comes from the environment (`SDP_*`) with the embedded profile as default; no other module reads the environment for
configuration. Hosts, catalogs and secrets live here, never in a contract.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from platform_resources.addresses import database_address, require_http, table_root
from platform_resources.errors import PlatformError
from platform_resources.object_store import ObjectStore

CLIENT_FILE = "client.json"  # what a server of the stack tells its clients, under home/stack/NAME
FILE_IO = "platform_resources.lakehouse.file_io.S3FileIO"
SOURCE_ROOT = Path(__file__).resolve().parent.parent


def find_project(start: Path | None = None) -> Path:
    """The nearest folder from `start` (default: the working directory) upwards that holds a workspace.yaml, else the source tree."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "workspace.yaml").is_file():
            return folder
    return SOURCE_ROOT


def _user_cache() -> Path:
    """Where this user's programs keep what can be fetched again (XDG base directory specification)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shared-data-platform"


class Settings(BaseSettings):
    """Configuration of one platform instance. Two different `home`s never touch each other."""

    model_config = SettingsConfigDict(env_prefix="SDP_", frozen=True, extra="ignore")

    profile: Literal["embedded", "stack", "production"] = Field("embedded", description="Which set of components is used.")
    project: Path = Field(default_factory=find_project, description="Folder of workspace.yaml and data_products/.")
    domain: str | None = Field(None, description="Domain that reads, where a product names its readers; a location reads as its own.")
    home: Path = Field(Path(".sdp"), description="State of this instance; a relative path lies in the project.")
    cache: Path = Field(default_factory=_user_cache, description="Artifacts of real components, shared by all homes of this user.")
    event_log: Literal["local", "kafka"] | None = Field(None, description="Event log; default local when embedded, else kafka.")
    kafka_bootstrap: str | None = Field(None, description="Kafka bootstrap servers, host:port[,host:port]; default: the stack's broker.")
    warehouse: str | None = Field(
        None, description="Root of the tables, a folder or s3://bucket/folder; default: the folder home/warehouse, or the stack's Swift."
    )
    catalog_type: Literal["sql", "rest"] = Field("sql", description="PyIceberg catalog implementation.")
    catalog_name: str = Field("sdp", description="Catalog name; Spark's must equal it to share tables.")
    catalog_uri: str | None = Field(
        None,
        repr=False,
        description="SQLAlchemy or REST URI; default: SQLite at home/catalog.db, or the stack's PostgreSQL or REST server.",
    )
    s3_endpoint: str | None = Field(None, description="Address of the S3 API, http(s)://host:port; default: AWS, or the stack's Swift.")
    s3_region: str | None = Field(None, description="Region of the S3 API; default us-east-1.")
    s3_access_key: SecretStr | None = Field(None, description="Access key; default: the machine's own, or the stack's.")
    s3_secret_key: SecretStr | None = Field(None, description="Secret key to the access key.")
    s3_path_style: bool = Field(True, description="Bucket in the path (Swift, most servers) rather than in the host name (AWS).")
    smtp_host: str | None = Field(None, description="SMTP server for alert mails; none: alerts are only logged.")
    smtp_port: int = Field(25, description="Port of the SMTP server.")
    smtp_sender: str = Field("shared-data-platform@localhost", description="From address of alert mails.")
    base_url: str | None = Field(None, description="Public address of the Dagster UI, used for links in mails.")
    duckdb_memory_limit: str = Field("2GB", description="Memory limit of one DuckDB session.")
    duckdb_threads: int | None = Field(None, description="Threads of one DuckDB session; default: DuckDB's own.")
    spark_master: str = Field("local[*]", description="Spark's cluster: local[N], spark://host:port, yarn, k8s://...")
    spark_packages: str | None = Field(None, description="Maven coordinates that Spark resolves itself; default: the jars in the cache.")
    spark_jars: str | None = Field(None, description="Jars, comma-separated paths or URIs, in place of those in the cache.")
    spark_driver_memory: str = Field("1g", description="Heap of Spark's driver, which runs in the process of the platform.")
    spark_driver_host: str = Field("127.0.0.1", description="Address by which executors reach the driver.")
    spark_executors: int | None = Field(None, gt=0, description="Number of executors; default: the cluster's own.")
    spark_executor_cores: int | None = Field(None, gt=0, description="Cores of one executor; default: the cluster's own.")
    spark_executor_memory: str | None = Field(None, description="Heap of one executor; default: Spark's 1g.")
    spark_dynamic_allocation: bool = Field(False, description="Let Spark add and release executors as the work asks.")
    spark_min_executors: int = Field(0, ge=0, description="Executors kept while idle, under dynamic allocation.")
    spark_max_executors: int | None = Field(None, gt=0, description="Most executors under dynamic allocation; default: no limit.")
    spark_shuffle_partitions: int | None = Field(None, gt=0, description="Tasks of a shuffle; default: Spark's 200, merged as sizes allow.")
    spark_conf: dict[str, str] = Field(
        default_factory=dict,
        repr=False,
        description="Further Spark properties, a JSON object; they go last. Only spark.sql.catalog.* stay off a command line.",
    )
    connections: dict[str, SecretStr] = Field(
        default_factory=dict, description="Where landed data comes from and files are published: a JSON object of connection name to URI."
    )
    drain_seconds: float = Field(240.0, gt=0, description="Longest time one drain run lives before the sensor starts the next, seconds.")
    batch_events: int = Field(20_000, gt=0, description="Most events of one ingestion commit.")
    batch_bytes: int = Field(128 << 20, gt=0, description="Bytes of events after which an ingestion commit takes no more.")

    @model_validator(mode="after")
    def _resolve_paths(self) -> Settings:
        object.__setattr__(self, "project", self.project.resolve())
        object.__setattr__(self, "home", (self.project / self.home).resolve())
        return self

    @model_validator(mode="after")
    def _judge_addresses(self) -> Settings:
        """What would else come to light deep inside a client, in its words, after its time-outs."""
        if self.warehouse is not None:
            with _named("SDP_WAREHOUSE"):
                object.__setattr__(self, "warehouse", table_root(self.warehouse, self.project))
        if self.s3_endpoint is not None:
            with _named("SDP_S3_ENDPOINT"):
                require_http(self.s3_endpoint)
        if self.catalog_uri is not None:
            with _named("SDP_CATALOG_URI"):
                (require_http if self.catalog_type == "rest" else database_address)(self.catalog_uri)
        if (self.s3_access_key is None) != (self.s3_secret_key is None):
            given, other = ("ACCESS", "SECRET") if self.s3_secret_key is None else ("SECRET", "ACCESS")
            raise PlatformError(
                "settings-invalid", f"SDP_S3_{given}_KEY is set without SDP_S3_{other}_KEY.", "Set both, or neither for the machine's own."
            )
        return self

    @property
    def log_kind(self) -> Literal["local", "kafka"]:
        """The event log in force."""
        return self.event_log or ("local" if self.profile == "embedded" else "kafka")

    @property
    def dagster_home(self) -> Path:
        """DAGSTER_HOME of this instance."""
        return self.home / "dagster"

    @property
    def log_path(self) -> Path:
        """Folder of the local event log."""
        return self.home / "log"

    @property
    def stack_path(self) -> Path:
        """Folder of the real components' data and process files."""
        return self.home / "stack"

    @property
    def locks_path(self) -> Path:
        """Folder of the locks that name an active drain or run."""
        return self.home / "locks"

    def connection(self, name: str) -> str | None:
        """The URI of a connection, secrets in it: for a client, never for a text. None where the profile has none of that name."""
        found = self.connections.get(name)
        return None if found is None else found.get_secret_value().rstrip("/")

    @property
    def drop_path(self) -> Path:
        """Folder of the file drops that no connection names another place for: `drop/<connection>`."""
        return self.home / "drop"

    @property
    def public_path(self) -> Path:
        """Folder of what is published where no connection names another place: `public/<connection>`."""
        return self.home / "public"

    @property
    def connected_store(self) -> ObjectStore:
        """How an object store that a connection names is reached: as the tables' own, or by the same settings."""
        keys = (self.s3_access_key, self.s3_secret_key)
        return self.object_store or ObjectStore(self.s3_endpoint, self.s3_region or "us-east-1", *keys, self.s3_path_style)

    @property
    def warehouse_uri(self) -> str:
        """Root URI of the tables, no trailing slash.

        Raises:
            PlatformError: `stack-not-started`, `settings-missing`.
        """
        if self.warehouse is None and self.profile == "stack":
            return self.told_by("swift", "warehouse")
        if self.warehouse is None and self.profile == "production":  # a pod's folder would be gone with it
            raise _missing("SDP_WAREHOUSE", "The profile production", "the tables' root, e.g. s3://bucket/warehouse")
        return (self.warehouse or f"file://{self.home / 'warehouse'}").rstrip("/")

    @property
    def object_store(self) -> ObjectStore | None:
        """How the tables' object store is reached; None for tables in a folder.

        Raises:
            PlatformError: `stack-not-started`.
        """
        if not self.warehouse_uri.startswith(("s3:", "s3a:")):
            return None
        endpoint, region, access_key, secret_key = self.s3_endpoint, self.s3_region, self.s3_access_key, self.s3_secret_key
        if self.profile == "stack" and endpoint is None:
            endpoint, region = self.told_by("swift", "s3_endpoint"), region or self.told_by("swift", "s3_region")
            access_key = access_key or SecretStr(self.told_by("swift", "s3_access_key"))
            secret_key = secret_key or SecretStr(self.told_by("swift", "s3_secret_key"))
        return ObjectStore(endpoint, region or "us-east-1", access_key, secret_key, self.s3_path_style)

    @property
    def catalog_address(self) -> str:
        """URI of the catalog in force. It may hold a password: never shown.

        Raises:
            PlatformError: `stack-not-started`, `settings-missing`.
        """
        if self.catalog_uri is not None:
            return self.catalog_uri
        if self.profile == "stack":
            return self.told_by("iceberg-rest" if self.catalog_type == "rest" else "postgresql", "catalog_uri")
        if self.catalog_type == "rest":
            raise _missing("SDP_CATALOG_URI", "A REST catalog", "its address, http(s)://host:port/path")
        if self.profile == "production":
            raise _missing("SDP_CATALOG_URI", "The profile production", "the address of the PostgreSQL or REST catalog")
        return f"sqlite:///{self.home / 'catalog.db'}"

    def catalog_properties(self) -> dict[str, str]:
        """Properties for `pyiceberg.catalog.load_catalog`, secrets among them: for a client, never for a text."""
        store = self.object_store
        files = {} if store is None else {"py-io-impl": FILE_IO, **store.file_io()}
        return {"type": self.catalog_type, "uri": self.catalog_address, "warehouse": self.warehouse_uri, **files}

    def told_by(self, server: str, name: str) -> str:
        """What a server of this home's stack told its clients when it was started last.

        Raises:
            PlatformError: `stack-not-started`.
        """
        try:
            return str(json.loads((self.stack_path / server / CLIENT_FILE).read_text(encoding="utf-8"))[name])
        except (OSError, ValueError, KeyError):
            raise PlatformError(
                "stack-not-started",
                f"The profile stack uses the server {server}, which was never started in {self.home}.",
                f"Start it with `sdp stack up{' iceberg-rest' if server == 'iceberg-rest' else ''}`.",
            ) from None


def prepare_home(settings: Settings) -> Path:
    """Make the folder of this instance's state, prove that it can be written, and return it.

    Raises:
        PlatformError: `home-unwritable`.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.home):  # permission bits lie: to root, and of a file system mounted read-only
            pass
        ignored = settings.home / ".gitignore"
        if not ignored.exists():  # a home may lie in a repository, under whatever name, and holds keys
            ignored.write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise home_unwritable(settings.home, error) from None
    return settings.home


def home_unwritable(folder: Path, error: OSError) -> PlatformError:
    """The sentence for a state folder, or one in it, that cannot be used."""
    reason = "it is no folder" if isinstance(error, FileExistsError | NotADirectoryError) else (error.strerror or str(error))
    return PlatformError(
        "home-unwritable", f"The folder {folder} cannot be written: {reason}.", "Set SDP_HOME to a folder that you may write."
    )


def load_settings() -> Settings:
    """Settings from the environment as it is now.

    Raises:
        PlatformError: `settings-invalid` when a variable has a value outside its type, or that nobody could use.
    """
    try:
        return Settings()
    except SettingsError as error:  # of a JSON object; its words are "error parsing value for field "NAME" ..."
        name = str(error).split('"')[1] if '"' in str(error) else ""
        raise _invalid(f"SDP_{name.upper()}", "a value that is no JSON object", 'an object such as {"name": "value"}') from None
    except ValidationError as error:
        first = error.errors()[0]
        name = f"SDP_{first['loc'][0]}".upper()
        secret = any(word in name for word in ("_KEY", "_URI", "_CONNECTIONS", "_CONF"))
        shown = "a value" if secret else f"the value {os.environ.get(name)!r}"
        within = "".join(f" of {part!r}" for part in first["loc"][1:])
        raise _invalid(name, f"{shown}{within} that does not fit: {first['msg'].lower()}", "a valid value") from None


def _invalid(name: str, has: str, wanted: str) -> PlatformError:
    return PlatformError("settings-invalid", f"The environment variable {name} has {has}.", f"Set {name} to {wanted} or unset it.")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Tell which variable holds a value that was refused."""
    try:
        yield
    except ValueError as error:
        raise _invalid(name, f"a value that cannot be used: {error}", "such a one") from None


def _missing(name: str, who: str, what: str) -> PlatformError:
    return PlatformError("settings-missing", f"{who} needs {name}, which is not set.", f"Set {name} to {what}.")

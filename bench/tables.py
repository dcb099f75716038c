"""Landing of tables and APIs: rows of PostgreSQL, MariaDB and a paged JSON API as blocks of the contract's rows, against bare clients.

`python -m bench.tables [--rows N] [--repetitions N] [--json] [--only postgresql|mariadb|http]`. What is measured of ours is what a run does
but for the commit. The limit is the bare driver to Arrow, in the driver's own types: ADBC for PostgreSQL, PyMySQL for MariaDB, requests
with orjson for the API. ConnectorX, which promises neither one snapshot nor exact types, is measured where it is installed
(`pip install connectorx`). The servers are this machine's own, started for the run.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import orjson
import pyarrow as pa
from pyiceberg.types import BooleanType, DecimalType, DoubleType, LongType, StringType, TimestamptzType

from bench.harness import Result, arguments, compare, interleaved, report
from platform_resources.config import Settings
from platform_resources.contracts.model import Column, Contract, SourceSpec
from platform_resources.contracts.slices import Slices, read_start
from platform_resources.contracts.sources import DatabaseOptions, HttpOptions, Paging
from platform_resources.landing.opening import open_source
from platform_resources.stack import services

COLUMNS = (
    Column("id", LongType(), required=True),
    Column("wiki_id", StringType()),
    Column("title", StringType()),
    Column("dt", TimestamptzType()),
    Column("views", LongType()),
    Column("bytes", LongType()),
    Column("amount", DecimalType(18, 2)),
    Column("share", DoubleType()),
    Column("minor", BooleanType()),
)
PAGE = 1000
_FILL = {
    "postgresql": """
        CREATE TABLE pages AS SELECT n AS id, 'wiki' || n % 7 AS wiki_id, 'A title of a page ' || n AS title,
        timestamptz '2026-01-01 00:00+00' + n * interval '1 second' AS dt, n % 1000 AS views, n * 100000::bigint AS bytes,
        (n * 1.37)::numeric(18, 2) AS amount, n / 3.0::float8 AS share, n % 2 = 0 AS minor FROM generate_series(1, {rows}) AS n
    """,
    "mariadb": """
        CREATE TABLE pages AS SELECT CAST(seq AS SIGNED) AS id, concat('wiki', seq % 7) AS wiki_id,
        concat('A title of a page ', seq) AS title,
        CAST('2026-01-01' + INTERVAL seq SECOND AS DATETIME(6)) AS dt, seq % 1000 AS views, seq * 100000 AS bytes,
        CAST(seq * 1.37 AS DECIMAL(18, 2)) AS amount, seq / 3e0 AS share, seq % 2 = 0 AS minor FROM seq_1_to_{rows}
    """,
}
_SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
class Pages(BaseHTTPRequestHandler):
    protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", -1, True
    def do_GET(self):
        file = Path(sys.argv[2]) / self.path.rpartition("page=")[2]
        body = file.read_bytes() if file.exists() else b"[]"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Pages).serve_forever()
"""


def ours(kind: str, options: DatabaseOptions | HttpOptions, uri: str, rows: int) -> Callable[[], None]:
    """Read a snapshot, as a landing does."""
    slices = Slices("yearly", read_start("2020-01-01"))
    source = SourceSpec(kind, connection="bench", path="pages", options=options, slices=slices)
    contract = Contract("bench", "pages", Path("pages.yaml"), "1.0.0", "active", "", COLUMNS, source=source)
    settings = Settings(connections={"bench": uri})

    def read() -> None:
        opened = open_source(contract, settings)
        (delivery,) = opened.pending({})
        _see(sum(len(block.rows) for block in opened.read(delivery)), rows)

    return read


def _see(found: int, rows: int) -> None:
    if found != rows:
        raise SystemExit(f"{found} of {rows} rows were read, so this is no measurement")


def database(kind: str, settings: Settings, rows: int, repetitions: int) -> list[Result]:
    """One table by us, by the bare driver, by ConnectorX."""
    told = {name: settings.told_by(kind, name) for name in ("port", "password")}
    scheme = "postgresql" if kind == "postgresql" else "mysql"
    uri = f"{scheme}://sdp:{quote(told['password'])}@127.0.0.1:{told['port']}/sdp"
    bare = _adbc if kind == "postgresql" else _pymysql
    bare(uri, *(statement.format(rows=rows) for statement in ("DROP TABLE IF EXISTS pages", _FILL[kind])))
    driver = "ADBC" if kind == "postgresql" else "PyMySQL"
    things: dict[str, Callable[[], object]] = {
        f"{kind}: {driver}": lambda: _see(bare(uri, "SELECT * FROM pages"), rows),
        f"{kind}: landing": ours("database", DatabaseOptions(table="pages"), uri, rows),
    }
    if find_spec("connectorx"):
        things[f"{kind}: ConnectorX"] = lambda: _see(_connectorx(uri), rows)
    return compare(interleaved(things, repetitions), f"{kind}: {driver}", rows=rows, per_second=True)


def _adbc(uri: str, *statements: str) -> int:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(uri) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        found = sum(batch.num_rows for batch in cursor.fetch_record_batch()) if cursor.description else 0
        connection.commit()
        return found


def _pymysql(uri: str, *statements: str) -> int:
    import pymysql
    from pymysql.cursors import SSCursor

    password, _, place = uri.removeprefix("mysql://sdp:").partition("@")
    port = int(place.partition(":")[2].partition("/")[0])
    found = 0
    connection = pymysql.connect(host="127.0.0.1", port=port, user="sdp", password=password, database="sdp")
    with connection, connection.cursor(SSCursor) as cursor:
        for statement in statements:
            cursor.execute(statement)
        names = [entry[0] for entry in cursor.description or ()]
        while names and (some := cursor.fetchmany(10_000)):
            found += pa.table([pa.array(values) for values in zip(*some, strict=True)], names=names).num_rows
        connection.commit()
    return found


def _connectorx(uri: str) -> int:
    import connectorx

    return int(connectorx.read_sql(uri, "SELECT * FROM pages", return_type="arrow").num_rows)


def http(folder: Path, rows: int, repetitions: int) -> list[Result]:
    """Pages of a thousand records by us and by requests with orjson."""
    for page in range(-(-rows // PAGE)):
        (folder / str(page + 1)).write_bytes(orjson.dumps([_record(n) for n in range(page * PAGE, min(rows, (page + 1) * PAGE))]))
    with _serving(folder) as uri:
        things: dict[str, Callable[[], object]] = {
            "http: requests + orjson": lambda: _see(sum(table.num_rows for table in _requested(uri)), rows),
            "http: landing": ours("http", HttpOptions(paging=Paging("page")), uri, rows),
        }
        return compare(interleaved(things, repetitions), "http: requests + orjson", rows=rows, per_second=True)


def _record(number: int) -> dict[str, object]:
    return {
        "id": number, "wiki_id": f"wiki{number % 7}", "title": f"A title of a page {number}", "dt": f"2026-01-01T00:00:{number % 60:02}Z",
        "views": number % 1000, "bytes": number * 100_000, "amount": f"{number * 1.37:.2f}", "share": number / 3, "minor": number % 2 == 0,
    }  # fmt: skip


def _requested(uri: str) -> Iterator[pa.Table]:
    import requests

    with requests.Session() as session:
        page = 1
        while records := orjson.loads(session.get(f"{uri}/pages", params={"page": page}, timeout=60).content):
            yield pa.Table.from_pylist(records)
            page += 1


class _serving:  # noqa: N801 - reads as a word
    """A process that serves the pages of a folder, for the length of a block; gives its address."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen([sys.executable, "-c", _SERVER, str(self.port), str(folder)])

    def __enter__(self) -> str:
        for _ in range(200):
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 0.2).close()
                break
            time.sleep(0.05)
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__ or "", rows=500_000)
    parser.add_argument("--only", choices=("postgresql", "mariadb", "http"), help="one of the three")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-tables-"))
    folder.chmod(0o711)
    settings, servers = Settings(home=folder), [name for name in ("postgresql", "mariadb") if chosen.only in (None, name)]
    results: list[Result] = []
    try:
        services.start(settings, servers, die_with_parent=True)
        for name in servers:
            results += database(name, settings, chosen.rows, chosen.repetitions)
        if chosen.only in (None, "http"):
            (folder / "pages").mkdir()
            results += http(folder / "pages", chosen.rows, chosen.repetitions)
        report(results, as_json=chosen.json, title="Rows per second, server to Arrow")
    finally:
        services.stop(settings, servers)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

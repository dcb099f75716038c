"""What a domain team may get wrong in the contract of a product that lands, and the sentence and remedy it gets."""

# ruff: noqa: E501 - each case is a line of its own

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from platform_resources.contracts.iceberg import identifiers, partition_columns, table_definition
from platform_resources.contracts.sources import (
    Complete,
    DatabaseOptions,
    Dialect,
    FilesOptions,
    HttpOptions,
    Paging,
    compression_of,
    format_of,
)
from tests.contracts.conftest import Read

HEAD = """\
apiVersion: v3.2.0
kind: DataContract
id: shop.sales
version: 1.0.0
status: active
description: {purpose: Sales.}
servers:
  - server: drop
    type: custom
    customProperties:
"""
BODY = """\
schema:
  - name: sales
    logicalType: object
    customProperties: [%s]
    properties:
      - {name: article, logicalType: string, required: true, primaryKey: true, physicalName: Article No, description: Article.}
      - {name: sold, logicalType: integer, description: Pieces.}
      - {name: at, logicalType: timestamp, description: When.}
"""


def contract(server: dict[str, object], table: dict[str, object] | None = None) -> str:
    import json

    def entry(name: str, value: object) -> str:
        return f"{{property: {name}, value: {json.dumps(value)}}}"

    lines = "".join(f"      - {entry(name, value)}\n" for name, value in server.items())
    return HEAD + lines + BODY % ", ".join(entry(name, value) for name, value in (table or {}).items())


FILES = {"source": "files", "path": "sales/*.csv"}
DATED = {"source": "files", "path": "sales/{slice:%Y-%m-%d}.csv", "start": "2026-01-01"}
TABLE = {"source": "database", "connection": "erp", "table": "sales", "cursor": "at"}

WRONG = [
    ({"source": "files"}, {}, "contract-source-incomplete", "The source files has no path."),
    ({"source": "files", "path": "../x.csv"}, {}, "contract-path", "The source files has the path '../x.csv', which leaves the connection's root."),
    ({"source": "files", "path": "x"}, {}, "contract-source-incomplete", "The source files has the path 'x', which does not tell the files' format."),
    ({"source": "files", "path": "x.parquet.gz"}, {}, "contract-source-incomplete", "The source files reads parquet with a compression around it."),
    ({"source": "files", "path": "{slice}.csv"}, {}, "contract-path", "The path '{slice}.csv' has the placeholder {slice}, which is not of the form {slice:%Y-%m-%d}."),
    ({"source": "files", "path": "{slice:%m-%d}.csv"}, {}, "contract-path", "The path '{slice:%m-%d}.csv' does not tell a whole date."),
    ({"source": "files", "path": "{slice:%Y}.csv"}, {}, "contract-start", "The source has yearly slices, but nothing says which is the first."),
    ({**FILES, "cadence": "daily", "start": "2026-01-01"}, {}, "contract-cadence", "The cadence is daily, but the path 'sales/*.csv' names no slice."),
    ({**DATED, "cadence": "hourly"}, {}, "contract-cadence", "The cadence is hourly, but the path tells daily slices."),
    ({**DATED, "cadence": "weekly"}, {}, "contract-start", "The start 2026-01-01T00:00 is no beginning of a weekly slice."),
    ({**FILES, "start": "2026-01-01"}, {}, "contract-start", "The source has a start but no slices."),
    ({**FILES, "format": "xlsx"}, {}, "contract-custom-value", "The custom property format has the value 'xlsx', which is not one of csv, tsv, ndjson, json, parquet."),
    ({**FILES, "encoding": "utf-9"}, {}, "contract-custom-value", "The custom property encoding has the value 'utf-9', which is no encoding that is known."),
    ({**FILES, "dialect": {"delimter": ";"}}, {}, "contract-custom-value", None),
    ({**FILES, "dialect": {"delimiter": "ab"}}, {}, "contract-custom-value", None),
    ({**FILES, "complete": {"marker": "a/b"}}, {}, "contract-custom-value", None),
    ({"source": "database", "table": "x", "cursor": "at"}, {}, "contract-source-incomplete", "The source database has no connection."),
    ({"source": "database", "connection": "erp", "cursor": "at"}, {}, "contract-source-incomplete", "The source database needs either a table or a query."),
    ({**TABLE, "query": "select 1"}, {}, "contract-source-incomplete", "The source database needs either a table or a query."),
    ({**TABLE, "cursor": "on"}, {}, "contract-column-unknown", "The cursor names the column on, which the contract does not declare."),
    ({**TABLE, "cadence": "daily", "start": "2026-01-01"}, {}, "contract-source-incomplete", "The source database has both cursor and cadence."),
    ({"source": "database", "connection": "erp", "table": "x"}, {}, "contract-source-incomplete", "The source database has neither cursor nor cadence."),
    ({"source": "http", "connection": "api", "cursor": "at"}, {}, "contract-source-incomplete", "The source http has no path."),
    ({"source": "http", "connection": "api", "path": "/x", "cursor": "at", "paging": {"style": "cursor"}}, {}, "contract-custom-value", None),
    (FILES, {"writeMode": "overwrite"}, "contract-write-mode", "The writeMode is overwrite, but the source has no slices that a delivery could replace."),
    (FILES, {"validity": True}, "contract-validity", "Rows with a validity need deliveries in an order of time, but the source has neither slices nor a cursor."),
    (DATED, {"validity": True, "writeMode": "append"}, "contract-validity", "Rows with a validity are merged, but the writeMode is append."),
    (DATED, {"validity": True, "sequence": ["at"]}, "contract-validity", "The order of a validity is that of the slices, so sequence has no place."),
    (FILES, {"incremental": "key"}, "contract-write-mode", "A landed product is not computed, but is declared incremental: key."),
    (FILES, {"eventTime": "sold"}, "contract-event-time-type", "The eventTime sold is a long, which is no point in time."),
    (FILES, {"eventTime": "when"}, "contract-column-unknown", "The eventTime names the column when, which the contract does not declare."),
]  # fmt: skip


@pytest.mark.parametrize(("server", "table", "code", "sentence"), WRONG)
def test_a_fault_is_told_in_one_sentence(
    read: Read, server: dict[str, object], table: dict[str, object], code: str, sentence: str | None
) -> None:
    found, problems = read(contract(server, table))
    assert found is None
    told = [problem for problem in problems if problem.code == code]
    assert told, problems
    assert sentence in (None, told[0].message)
    assert told[0].remedy
    assert told[0].line > 6


def test_an_option_of_another_kind_is_warned_about(read: Read) -> None:
    found, problems = read(contract({**FILES, "paging": {"style": "page"}}))
    assert found is not None
    assert [problem.message for problem in problems] == ["The custom property paging has no effect on a source of kind files."]


def test_what_is_said_is_typed_by_kind(read: Read) -> None:
    given = {"dialect": {"delimiter": "tab", "quote": "none", "null": ["", "NULL"]}, "complete": {"marker": "{name}.done"}}
    files, _ = read(contract({**FILES, **given, "compression": "gzip"}))
    assert files is not None
    assert files.source is not None
    assert files.source.options == FilesOptions(
        compression="gzip", dialect=Dialect("\t", None, null=("", "NULL")), complete=Complete(timedelta(0), "{name}.done")
    )
    assert (files.write_mode, files.event_time, files.columns[0].source_name) == ("append", "", "Article No")
    table, _ = read(contract({**TABLE, "overlap": "10 minutes"}, {"writeMode": "merge"}))
    assert table is not None
    assert table.source is not None
    assert table.source.options == DatabaseOptions("sales", None, "at", timedelta(minutes=10))
    paging = {"style": "page", "parameter": "p", "size": 50, "sizeParameter": "n"}
    api, _ = read(
        contract({"source": "http", "connection": "api", "path": "/x", "cursor": "at", "cursorParameter": "since", "paging": paging})
    )
    assert api is not None
    assert api.source is not None
    assert api.source.options == HttpOptions(None, Paging("page", "p", None, 50, "n"), "at", "since")


def test_tables_of_slices_and_of_validity(read: Read) -> None:
    sliced, _ = read(contract(DATED))
    assert sliced is not None
    assert sliced.slices is not None
    assert sliced.slices.start == datetime(2026, 1, 1, tzinfo=UTC)
    assert (sliced.write_mode, partition_columns(sliced), identifiers(sliced)) == (
        "overwrite",
        (("_slice", "identity"),),
        ("article", "_slice"),
    )
    assert table_definition(sliced).schema.column_names[3:] == ["_file_name", "_file_hash", "_line", "_slice", "_landed_at"]
    held, _ = read(contract(DATED, {"validity": True}))
    assert held is not None
    assert (held.write_mode, partition_columns(held), identifiers(held)) == ("merge", (), ("article", "_valid_from"))
    assert table_definition(held).schema.column_names[-2:] == ["_valid_from", "_valid_to"]
    assert held.fingerprint != sliced.fingerprint


def test_suffixes_tell_format_and_compression() -> None:
    options = FilesOptions()
    assert [format_of(options, name) for name in ("a.csv.gz", "b/*.jsonl", "c.TSV", "d.parquet", "e.bz2")] == [
        "csv",
        "ndjson",
        "tsv",
        "parquet",
        None,
    ]
    assert [compression_of(None, name) for name in ("a.csv.gz", "b.bz2", "c.zst", "d.csv")] == ["gzip", "bzip2", "zstd", "none"]

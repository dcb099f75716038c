"""`sdp query` and `sdp list`: what products there are and what is in them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from platform_resources.cli.output import (
    Col,
    Command,
    answer,
    arrow_rows,
    draw_records,
    draw_table,
    error_document,
    fits,
    json_option,
    progress,
)
from platform_resources.config import load_settings
from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.errors import PlatformError
from platform_resources.parts import Parts

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table
    from rich.console import Console

    from platform_resources.lakehouse.catalog import Lakehouse

SHOWN_ROWS = 40


@click.command("query", cls=Command, reads_tables=True)
@click.argument("sql")
@click.option("--limit", type=click.IntRange(0), metavar="N", help=f"At most N rows; people see {SHOWN_ROWS} unless they say otherwise.")
@click.option("--branch", metavar="NAME", help="Read what is on this branch or tag, e.g. refused/RUN; products without it at main.")
@click.option("--include-quarantine", is_flag=True, help="Make the quarantine tables views too.")
@click.option("--as", "reader", metavar="DOMAIN", help="The domain that asks, where a product names its readers; default SDP_DOMAIN.")
@json_option
def query_command(sql: str, limit: int | None, branch: str | None, include_quarantine: bool, reader: str | None, as_json: bool) -> None:
    """Ask SQL (DuckDB's) over all products; each is a view domain.product. SQL may be - for stdin, or @FILE.

    Example: sdp query "select wiki_id, count(*) from mediawiki.page_change group by all"
    """
    from platform_resources.sourcing import query

    settings = load_settings()
    with progress("asking"):
        registry = Registry.load(settings.project)
        table = query(_sql_text(sql), settings, registry, include_quarantine=include_quarantine, branch=branch, reader=reader)
    if limit is not None:
        table = table.slice(0, limit)
    if as_json:
        answer(arrow_rows(table), as_json=True, human=lambda _: None)
    else:
        answer(None, as_json=False, human=lambda console: _draw_rows(console, table, SHOWN_ROWS if limit is None else limit))


def _sql_text(sql: str) -> str:
    """The query itself, from wherever the argument says; a byte order mark, which some editors write, is no part of it."""
    if sql != "-" and not sql.startswith("@"):
        return sql
    name = "Standard input" if sql == "-" else f"The file {sql[1:]}"
    try:
        data = sys.stdin.buffer.read() if sql == "-" else Path(sql[1:]).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise PlatformError("file-unreadable", f"{name} cannot be read: {error.strerror}.", "Name a file with one query.") from None
    except UnicodeDecodeError:
        raise PlatformError("file-unreadable", f"{name} cannot be read: it is not UTF-8.", "Save it as UTF-8 text.") from None


def _draw_rows(console: Console, table: pa.Table, limit: int) -> None:
    """Rows as a table; those that do not fit the width are turned, a block of `column  value` lines for each row."""
    import pyarrow as pa

    rows = list(arrow_rows(table.slice(0, limit)))
    numeric = [pa.types.is_integer(f.type) or pa.types.is_floating(f.type) or pa.types.is_decimal(f.type) for f in table.schema]
    names = list(rows[0]) if rows else table.column_names
    cells = [list(row.values()) for row in rows]
    if not fits(names, cells, console.width):
        draw_records(console, rows) if rows else console.print(f"No row; the columns are {', '.join(names)}.", soft_wrap=True)
    else:
        draw_table(console, [Col(name, right=right) for name, right in zip(names, numeric, strict=True)], cells)
    more = table.num_rows - len(rows)
    console.print(
        f"{table.num_rows:,} {'row' if table.num_rows == 1 else 'rows'}" + (f", {more:,} not shown (--limit N, --json)" if more else "")
    )


@click.command("list", cls=Command, reads_tables=True)
@click.option("--domain", help="Only the products of this domain.")
@json_option
def list_command(domain: str | None, as_json: bool) -> None:
    """All products of the project. One whose contract is broken is listed as such; `sdp check` says why."""
    settings = load_settings()
    registry = Registry.load(settings.project)
    if domain is not None and domain not in registry.domains:
        raise PlatformError(
            "domain-unknown", f"There is no domain {domain}.", f"Name one of: {', '.join(sorted(registry.domains)) or '(there is none)'}."
        )
    lakehouse = Parts(settings).lakehouse
    products = [
        listed(registry, contract, read_table(lakehouse, contract.identifier)) for _, contract in sorted(registry.contracts.items())
    ]
    products += [_broken(key) for key in sorted(registry.broken)]
    chosen = [product for product in products if domain in (None, product["domain"])]

    def draw(console: Console) -> None:
        columns = [
            Col("product", keep=True),
            Col("kind", keep=True),
            Col("status", keep=True),
            Col("rows", right=True, keep=True),
            Col("owner"),
            Col("title", spare=True),
        ]
        draw_table(
            console, columns,
            [(p["product"], p["kind"], p["status"], damaged_or(p, p["rows"]), ", ".join(p["owners"]), p["title"]) for p in chosen],
        )  # fmt: skip
        if not chosen:
            console.print("There is no product yet. Begin with `sdp new domain NAME --owner ADDRESS`.")

    answer(chosen, as_json=as_json, human=draw)
    raise_damage(product["error"] for product in chosen)


def listed(registry: Registry, contract: Contract, table: Table | PlatformError | None) -> dict[str, Any]:
    """The row of `sdp list`; of a damaged table what the contract says of it, and the `error`."""
    damage = table if isinstance(table, PlatformError) else None
    return {
        "product": contract.key,
        "domain": contract.domain,
        "title": contract.title,
        "kind": kind_of(contract, registry),
        "status": contract.status,
        "version": contract.version,
        "owners": list(contract.owners),
        "stream": contract.source.stream if contract.source else None,
        "classification": contract.classification,
        "column_count": len(contract.columns),
        "rows": row_count(table) if not (table is None or isinstance(table, PlatformError)) else None,
        "error": error_document(damage) if damage else None,
    }


def _broken(key: str) -> dict[str, Any]:
    empty = dict.fromkeys(("title", "version", "stream", "classification", "column_count", "rows", "error"))
    return {"product": key, "domain": key.partition("/")[0], "kind": "-", "status": "broken", "owners": [], **empty}


def kind_of(contract: Contract, registry: Registry) -> str:
    """What fills a product: `stream`, another source's kind, `sql` or `python`."""
    if contract.source is not None:
        return contract.source.kind
    path = registry.transform_path(contract.key)
    return {".sql": "sql", ".py": "python"}.get(path.suffix, "-") if path else "-"


def read_table(lakehouse: Lakehouse, identifier: str) -> Table | PlatformError | None:
    """A product's table, None before its first commit; the error of one whose metadata is damaged, which must not hide the others."""
    try:
        return lakehouse.table(identifier)
    except PlatformError as error:
        if error.code != "metadata-damaged":
            raise
        return error


def damaged_or(product: Mapping[str, Any], value: Any) -> Any:
    """The cell of a product's row: the value, or that its table is damaged."""
    from rich.text import Text

    return value if product["error"] is None else Text("damaged", style="red")


def raise_damage(errors: Iterable[Mapping[str, Any] | None]) -> None:
    """End with the sentence of each damaged table, after what could be told of the others is told.

    Raises:
        PlatformError: `metadata-damaged`.
    """
    found = [PlatformError(error["code"], error["message"], error["remedy"]) for error in errors if error is not None]
    for error in found[:-1]:
        click.echo(f"{error} [{error.code}]", err=True)
    if found:
        raise found[-1]


def row_count(table: Table) -> int:
    """Rows of the table's head, from its summary."""
    from platform_resources.lakehouse.files import live_rows
    from platform_resources.lakehouse.stamp import summary_of

    head = table.current_snapshot()
    return live_rows(summary_of(head)) if head is not None else 0

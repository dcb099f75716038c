"""SQL transforms: which products a query reads, where its columns come from, and whether DuckDB accepts it against the contracts.

sqlglot reads the text (names, lineage, tracing); DuckDB is the judge of whether it is valid, over empty tables made from the
contracts. Nothing here touches the lakehouse.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import duckdb
import sqlglot
from pyiceberg.schema import Schema
from pyiceberg.types import IcebergType, ListType, MapType, StructType
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.model import Contract
from platform_resources.contracts.readers import refusal_of
from platform_resources.contracts.registry import Registry
from platform_resources.engines.current import expanded
from platform_resources.engines.duck import aggregate_functions, create_empty_tables, offline_session
from platform_resources.engines.tracing import function_name, non_deterministic, product_of, trace, value_sources
from platform_resources.engines.transform import ColumnSource, Transform
from platform_resources.engines.types import duck_type, mismatch
from platform_resources.errors import PlatformError, Problem

ROW_SOURCES = frozenset({"unnest", "range", "generate_series"})
"""Functions that may stand in FROM: they make rows of their arguments and read nothing."""


def read_sql(path: Path, contract: Contract, registry: Registry) -> Transform:
    """The transform in a `.sql` file: its inputs, lineage and tracing. Whether DuckDB accepts it is told by `validate`.

    Raises:
        PlatformError: `sql-unreadable`, `sql-not-one-query`, `sql-bare-name`, `sql-three-part-name`, `sql-reads-file`,
            `sql-unknown-product`, `sql-input-broken`, `reader-refused`, `sql-reads-itself`, `sql-no-input`, with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise PlatformError("sql-unreadable", f"The query cannot be read: {error}.", "Save it as UTF-8 text.", file=path) from None
    where = shown_path(path, registry)
    tree = parse_query(text, file=where)
    tables = referenced_tables(tree, file=where)
    if (written := expanded(text, tables, registry)) != text:
        text, tree = written, parse_query(written, file=where)
        tables = referenced_tables(tree, file=where)
    inputs = _inputs(tables, contract, registry, where)
    schemas = {registry.get(key).identifier: table_definition(registry.get(key)).schema for key in inputs}
    root, reason = _qualified(tree, schemas)
    transform = Transform(
        kind="sql",
        path=path,
        inputs=inputs,
        lineage=_lineage(root, registry) if root else {},
        code_version=hashlib.sha256(tree.sql(dialect="duckdb", comments=False).encode()).hexdigest()[:16],
        text=text,
        warnings=tuple(_warn_non_deterministic(tree, text, contract, where)),
        obstacle=_not_row_wise(tree),
    )
    keys, lost = _trace_keys(root, reason, contract, transform, schemas)
    return transform.with_keys(keys, lost)


def parse_query(text: str, *, file: str = "") -> exp.Query:
    """The one query of a text.

    Raises:
        PlatformError: `sql-syntax` or `sql-not-one-query`.
    """
    try:
        trees = [tree for tree in sqlglot.parse(text, dialect="duckdb") if tree is not None and not isinstance(tree, exp.Semicolon)]
    except SqlglotError as error:
        details = (getattr(error, "errors", None) or [{}])[0]
        said = str(details.get("description") or error).strip().rstrip(".")
        raise _syntax_error(text, file) or PlatformError(
            "sql-syntax",
            f"The query cannot be analysed: {said}.",
            "Write that part in plainer SQL.",
            file=file,
            line=int(details.get("line") or 0),
        ) from None
    if len(trees) == 1 and isinstance(trees[0], exp.Query):
        query = trees[0]
        while isinstance(query, exp.Subquery) and query.is_wrapper:  # parentheses around the whole say nothing
            query = query.this
        return query
    what = "nothing" if not trees else f"{len(trees)} statements" if len(trees) > 1 else f"a {trees[0].key.upper()} statement"
    line = _line(trees[-1]) if trees else 0
    raise _syntax_error(text, file) or PlatformError(
        "sql-not-one-query", f"The text holds {what} instead of one query.", "Leave exactly one SELECT.", file=file, line=line
    )


def _syntax_error(text: str, file: str) -> PlatformError | None:
    """What DuckDB, the judge, holds against the syntax; None when it has nothing against it."""
    try:
        with duckdb.connect() as con:
            con.execute("SET errors_as_json = true")
            con.extract_statements(text)
    except duckdb.Error as refused:
        message, line = read_duckdb_error(refused, text)
        return PlatformError("sql-syntax", f"The query is not SQL: {message}", "Correct the text at that line.", file=file, line=line)
    return None


def one_statement(text: str) -> str:
    """A query's text without what ends it, so that it can stand in parentheses."""
    tokens = sqlglot.tokenize(text, read="duckdb")
    while tokens and tokens[-1].text == ";":
        tokens.pop()
    return text[: tokens[-1].end + 1] if tokens else ""


def referenced_tables(tree: exp.Query, *, file: str = "") -> list[exp.Table]:
    """The references to products in a query, in order, CTE names and row sources (`unnest`, `range`) left out.

    Raises:
        PlatformError: `sql-bare-name`, `sql-three-part-name`, `sql-reads-file` at the first reference that is no `domain.product`.
    """
    tables = sorted((table for table in tree.find_all(exp.Table) if not _is_scoped(table)), key=_position)
    kept = []
    for table in tables:
        if isinstance(table.this, exp.Func):
            name = row_source(table.this)
            if name in ROW_SOURCES:
                continue
            raise PlatformError(
                "sql-reads-file", f"The query calls {name}() in FROM, where only products, unnest, range and generate_series may stand.",
                "Read a product, FROM domain.product; a file becomes a product by a contract with a source.", file=file, line=_line(table),
            )  # fmt: skip
        if table.catalog:
            raise PlatformError(
                "sql-three-part-name", f"{table.catalog}.{table.db}.{table.name} has three parts.",
                "Name a product by two: domain.product.", file=file, line=_line(table),
            )  # fmt: skip
        if not table.db:
            raise PlatformError(
                "sql-bare-name", f"{table.name} in FROM is neither a WITH name nor domain.product.",
                "Write domain.product, or define the name in WITH.", file=file, line=_line(table),
            )  # fmt: skip
        kept.append(table)
    return kept


def _is_scoped(table: exp.Table) -> bool:
    """Whether a name is a CTE's: bare, and defined in a WITH that encloses it."""
    if table.db or isinstance(table.this, exp.Func):
        return False
    node: exp.Expr | None = table.parent
    while node is not None:
        with_ = node.args.get("with_") or node.args.get("with")
        if with_ is not None and any(cte.alias.lower() == table.name.lower() for cte in with_.expressions):
            return True
        node = node.parent
    return False


def _position(node: exp.Expr) -> tuple[int, int]:
    meta = next((inner.meta for inner in node.walk() if inner.meta.get("line")), {})
    return int(meta.get("line", 0)), int(meta.get("col", 0))


def _line(node: exp.Expr) -> int:
    return _position(node)[0]


def _inputs(tables: Sequence[exp.Table], contract: Contract, registry: Registry, where: str) -> tuple[str, ...]:
    inputs: dict[str, None] = {}
    for table in tables:
        name = product_of(table)
        key = name.replace(".", "/", 1)
        if key == contract.key:
            raise PlatformError(
                "sql-reads-itself", f"The query reads its own product {name}.", "Read its inputs only.", file=where, line=_line(table)
            )
        if key not in registry.contracts:
            raise unknown_input(key, registry, file=where, line=_line(table), kind="sql")
        require_input(key, contract, registry, file=where, line=_line(table))
        inputs[key] = None
    if not inputs:
        raise PlatformError("sql-no-input", "The query reads no product.", "Name at least one domain.product in FROM.", file=where, line=1)
    return tuple(inputs)


def require_input(key: str, contract: Contract, registry: Registry, *, file: str, line: int) -> None:
    """Let pass an input that the product's domain may read.

    Raises:
        PlatformError: `reader-refused`, with the place in the transform that names it.
    """
    refused = refusal_of(registry.get(key), contract.domain)
    if refused is not None:
        raise PlatformError(refused.code, refused.message, refused.remedy, file=file, line=line)


def unknown_input(key: str, registry: Registry, *, file: str, line: int, kind: str) -> PlatformError:
    """The sentence for an input that has no (sound) contract. Codes `<kind>-unknown-product`, `<kind>-input-broken`."""
    broken = [problem for problem in registry.problems_of(key) if problem.severity == "error"]
    if broken:
        first = broken[0]
        return PlatformError(
            f"{kind}-input-broken", f"The contract of the input {key} is broken: {first.message.rstrip('.')} ({first.file}:{first.line}).",
            "Ask its owners to mend it; `sdp check` shows all its problems.", file=file, line=line,
        )  # fmt: skip
    close = get_close_matches(key, list(registry.contracts), n=2, cutoff=0.75)
    hint = (
        f"Did you mean {' or '.join(name.replace('/', '.') if kind == 'sql' else name for name in close)}?"
        if close
        else "`sdp list` shows the products there are."
    )
    shown = key.replace("/", ".", 1) if kind == "sql" else key
    return PlatformError(f"{kind}-unknown-product", f"No contract declares the input {shown}.", hint, file=file, line=line)


def shown_path(path: Path, registry: Registry) -> str:
    """A path as problems show it: relative to the project where it lies inside."""
    project = getattr(registry, "project", None)
    try:
        return str(path.resolve().relative_to(Path(project).resolve())) if project else str(path)
    except ValueError:
        return str(path)


def _qualified(tree: exp.Query, schemas: Mapping[str, Schema]) -> tuple[Scope | None, str]:
    """The tree with stars expanded and columns qualified, or why sqlglot could not."""
    mapping: dict[str, Any] = {}
    for identifier, schema in schemas.items():
        domain, _, product = identifier.partition(".")
        mapping.setdefault(domain, {})[product] = {field.name: _sqlglot_type(field.field_type) for field in schema.fields}
    try:
        qualified = qualify(
            _with_unnested(tree), schema=mapping, dialect="duckdb", validate_qualify_columns=False, quote_identifiers=False, identify=False
        )
        return build_scope(qualified), ""
    except Exception as error:  # noqa: BLE001 - the analysis is a help, DuckDB is the judge; without it every change recomputes all
        return None, f"the query could not be analysed ({str(error).splitlines()[0] if str(error) else type(error).__name__})"


def _with_unnested(tree: exp.Query) -> exp.Query:
    """A copy in which `range` and `generate_series` in FROM stand as UNNEST, the row source that sqlglot's scopes know: to them a function
    in FROM is a table without a name.
    """
    copy = tree.copy()
    for table in list(copy.find_all(exp.Table)):
        if isinstance(table.this, exp.Func):
            name = row_source(table.this)
            alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(name))
            if not alias.columns:
                names = [name, "ordinality"] if table.args.get("ordinality") else [name]
                alias.set("columns", [exp.to_identifier(column) for column in names])
            table.replace(exp.Unnest(expressions=[table.this], alias=alias))
    return copy


def row_source(call: exp.Func) -> str:
    """The name of a function in FROM, which is the name of its column too; sqlglot takes `range` for a `generate_series`."""
    return "range" if isinstance(call, exp.GenerateSeries) and call.args.get("is_end_exclusive") else function_name(call)


def _sqlglot_type(kind: IcebergType) -> str:
    """Only the nesting matters to sqlglot's star expansion and dots."""
    if isinstance(kind, StructType):
        return "STRUCT<" + ", ".join(f'"{field.name}" {_sqlglot_type(field.field_type)}' for field in kind.fields) + ">"
    if isinstance(kind, ListType | MapType):
        return "VARIANT"
    return str(kind).split("[", maxsplit=1)[0].split("(", maxsplit=1)[0].replace("timestamptz", "timestamptz").replace("long", "bigint")


def _lineage(root: Scope, registry: Registry) -> dict[str, tuple[ColumnSource, ...]]:
    result = {}
    for column, leaves in value_sources(root).items():
        sources: dict[ColumnSource, None] = {}
        for product, path in leaves:
            key = product.replace(".", "/", 1)
            sources[ColumnSource(key, _declared(registry.contracts[key], path))] = None
        result[column] = tuple(sources)
    return result


def _declared(contract: Contract, path: str) -> str:
    """The longest beginning of a path that the contract declares; a stream's own columns as they are."""
    steps = path.split(".")
    for length in range(len(steps), 0, -1):
        if contract.has_column(".".join(steps[:length])):
            return ".".join(steps[:length])
    return steps[0]


def _trace_keys(
    root: Scope | None, reason: str, contract: Contract, transform: Transform, schemas: Mapping[str, Schema]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Tracing of the key (or partition source) columns, by product key; what is lost, with its reason."""
    columns = key_columns(contract)
    if not columns:
        return {}, {}
    if root is None:
        return {}, dict.fromkeys(transform.inputs, reason)
    types = {product: {field.name: duck_type(field.field_type) for field in schema.fields} for product, schema in schemas.items()}
    traced = trace(root, columns, types)
    return (
        {product.replace(".", "/", 1): places for product, places in traced.expressions().items()},
        {product.replace(".", "/", 1): why for product, why in traced.lost.items()},
    )


def key_columns(contract: Contract) -> tuple[str, ...]:
    """The output columns by which a product is recomputed: its incremental key, or the source columns of its partition fields."""
    if contract.incremental == "key":
        return contract.incremental_key or contract.primary_key
    if contract.incremental == "partition":
        definition = table_definition(contract)
        return tuple(dict.fromkeys(definition.schema.find_column_name(field.source_id) or "" for field in definition.partition_spec.fields))
    return ()


_MIXING: Mapping[type[exp.Expr], str] = {
    exp.Group: "GROUP BY", exp.AggFunc: "an aggregate", exp.Window: "a window function", exp.Distinct: "DISTINCT", exp.Limit: "LIMIT",
    exp.Offset: "OFFSET", exp.Fetch: "FETCH", exp.Except: "EXCEPT", exp.Intersect: "INTERSECT", exp.TableSample: "SAMPLE",
    exp.Pivot: "PIVOT",
}  # fmt: skip


def _not_row_wise(tree: exp.Query) -> tuple[str, int] | None:
    """The first construct by which one output row depends on several input rows or on none, and its line; None for a row-wise query."""
    return next(((what, _line(node)) for node in tree.walk() if (what := _mixes_rows(node))), None)


def _mixes_rows(node: exp.Expr) -> str | None:
    for kind, name in _MIXING.items():
        if isinstance(node, kind) and not isinstance(node.parent, exp.Window):
            return name
    in_expression = isinstance(node, exp.Subquery | exp.Exists) or (isinstance(node, exp.In) and node.args.get("query"))
    found = {
        "an aggregate": isinstance(node, exp.Func) and function_name(node) in aggregate_functions(),
        "UNION without ALL": isinstance(node, exp.Union) and node.args.get("distinct"),
        "a join": isinstance(node, exp.Join) and not _unnests(node),
        "a subquery in an expression": in_expression and not isinstance(node.parent, exp.From | exp.Join | exp.SetOperation),
        "a recursive WITH": isinstance(node, exp.With) and node.args.get("recursive"),
        "rows that come from no input": isinstance(node, exp.Select) and not _reads_rows(node),
    }
    return next((what for what, holds in found.items() if holds), None)


def _unnests(join: exp.Join) -> bool:
    """Whether a join only makes more rows of each row of its left side, or fewer."""
    made_of_the_row = isinstance(join.this, exp.Unnest | exp.Lateral) or (
        isinstance(join.this, exp.Table) and isinstance(join.this.this, exp.Func)
    )
    return made_of_the_row and (join.side or "").upper() not in ("RIGHT", "FULL")


def _reads_rows(select: exp.Select) -> bool:
    """Whether a SELECT begins with a product or another query: rows from nowhere would be added again by every run."""
    origin = select.args.get("from_") or select.args.get("from")
    first = origin.this if origin is not None else None
    return isinstance(first, exp.Subquery) or (isinstance(first, exp.Table) and not isinstance(first.this, exp.Func))


def _warn_non_deterministic(tree: exp.Query, text: str, contract: Contract, where: str) -> list[Problem]:
    if contract.incremental == "full":
        return []
    found: dict[str, int] = {}
    for call in non_deterministic(tree):
        name = call.sql(dialect="duckdb").split("(", maxsplit=1)[0].lower()
        found.setdefault(name, _line(call) or _line_of_word(text, name))
    return [
        Problem(where, line, "sql-non-deterministic",
                f"{name} differs from run to run, so an incremental run and a recomputation disagree.",
                "Compute from columns of the inputs, or declare incremental: full.", "warning")
        for name, line in found.items()
    ]  # fmt: skip


def _line_of_word(text: str, word: str) -> int:
    return next((number for number, line in enumerate(text.splitlines(), 1) if word in line.lower()), 0)


def validate(transform: Transform, contract: Contract, registry: Registry) -> list[Problem]:
    """What DuckDB and the output contract hold against a SQL transform; [] for a sound one.

    Codes: `sql-unknown-column`, `sql-unknown-function`, `sql-invalid`, `sql-type-mismatch`, `sql-missing-column`,
    `sql-extra-column`, `sql-duplicate-column`, `sql-not-row-wise`, `sql-key-untraceable`, and the warnings `sql-quadratic-join` and those
    read with the text.
    """
    where = shown_path(transform.path, registry)
    text = transform.text or ""
    problems = list(transform.warnings)
    with offline_session() as con:
        create_empty_tables(con, {registry.get(key).identifier: table_definition(registry.get(key)).schema for key in transform.inputs})
        try:
            relation = bind(con, text)
            names, types = list(relation.columns), list(relation.types)
        except duckdb.Error as error:
            return [*problems, refusal(error, text, where)]
        problems += quadratic_joins(con, text, where)
    contract_file = shown_path(contract.path, registry)
    problems += _hold_against_contract(names, types, contract, where, contract_file, term_lines(text))
    problems += _incremental_problems(transform, contract, where)
    return problems


def bind(con: duckdb.DuckDBPyConnection, text: str) -> duckdb.DuckDBPyRelation:
    """The query as a relation over the session's empty tables.

    Raises:
        duckdb.Error: with details as JSON; `sql` gives plain words only (tried on 1.5.5), so a refused query is asked once more.
    """
    query = one_statement(text).lstrip()
    try:
        return con.sql(query)
    except duckdb.Error:
        con.execute(query)
        raise


def quadratic_joins(con: duckdb.DuckDBPyConnection, text: str, where: str) -> list[Problem]:
    """Joins that DuckDB can only do by comparing every row with every row, though nothing in the query looks like it."""
    plan = con.execute(f"EXPLAIN (FORMAT json) {one_statement(text)}").fetchall()[0][1]
    conditions = {
        " ".join(str(node["extra_info"].get("Condition", "")).split()): None
        for root in json.loads(plan)
        for node in _nodes(root)
        if node["name"] == "BLOCKWISE_NL_JOIN"
    }
    return [
        Problem(where, 0, "sql-quadratic-join", f"The join on {condition} compares every row with every row.",
                "Join by equal keys alone. What a left join asks of its left side goes into a key, as in on b.id = case when a.wanted then "
                "a.id end; an OR becomes two joins, or a CASE around what is selected.", "warning")
        for condition in conditions
        if condition != "true"  # who writes that means it
    ]  # fmt: skip


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node["children"]:
        yield from _nodes(child)


def refusal(error: duckdb.Error, text: str, where: str) -> Problem:
    """A query that DuckDB does not accept, as a problem. Codes: `sql-unknown-column`, `sql-unknown-function`, `sql-invalid`."""
    details = _details(error)
    message, line = read_duckdb_error(error, text)
    candidates = close_candidates(error)
    hint = f"Did you mean {' or '.join(candidates)}?" if candidates else "Correct the query at that line."
    subtype, said = details.get("error_subtype"), str(details.get("exception_message", ""))
    if subtype == "COLUMN_NOT_FOUND" or "Could not find key" in said or "does not have a column named" in said:
        inner = said.partition("Candidate Entries:")[2].strip()
        hint = f"The struct has {inner}." if inner else hint
        return Problem(where, line, "sql-unknown-column", message, hint)
    if details.get("exception_type") == "Catalog" and "Function" in str(details.get("type", "")):
        return Problem(where, line, "sql-unknown-function", message, hint)
    return Problem(where, line, "sql-invalid", message, hint)


def close_candidates(error: duckdb.Error) -> list[str]:
    """Of the names DuckDB offers instead of an unknown one, those most like it."""
    details = _details(error)
    offered = [name.strip() for name in str(details.get("candidates", "")).split(",") if name.strip() and "->" not in name]
    return get_close_matches(str(details.get("name", "")), offered, n=2) or offered[:3]


def _details(error: duckdb.Error) -> dict[str, Any]:
    start = str(error).find("{")
    try:
        found = json.loads(str(error)[start:]) if start >= 0 else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def read_duckdb_error(error: duckdb.Error, text: str) -> tuple[str, int]:
    """DuckDB's first sentence, without candidates and stacks, and the line of `text` it points at (0 when it points nowhere)."""
    details = _details(error)
    said = str(details.get("exception_message") or str(error).partition(": ")[2] or error)
    first = said.split("\n", maxsplit=1)[0].strip().rstrip("!.").replace("\t", " ") + "."
    position = details.get("position")
    offset = len(text) - len(text.lstrip())
    line = text.encode()[: int(position) + offset].count(b"\n") + 1 if position is not None else 0  # DuckDB counts bytes
    if not line and "Could not find key" in said:
        line = _line_of_word(text, said.split('"')[1].lower()) if '"' in said else 0
    return first, line


def term_lines(text: str) -> dict[str, int]:
    """The line of each term of the outermost SELECT, by the name it gives in small letters."""
    return {term.alias_or_name.lower(): _line(term) for term in parse_query(text).selects}


def _hold_against_contract(
    names: list[str], types: list[Any], contract: Contract, where: str, contract_file: str, lines: Mapping[str, int]
) -> list[Problem]:
    """Each problem stands at the term of the query; where the query names none (`*`, or nothing) at the column in the contract."""

    def place(name: str, declared: str) -> tuple[str, int]:
        return (where, lines[name]) if lines.get(name) else (contract_file, contract.column(declared).line)

    found = {name.lower(): kind for name, kind in zip(names, types, strict=True)}
    declared = {field.name.lower(): field for field in table_definition(contract).schema.fields}
    repeated = sorted({name for name in names if [other.lower() for other in names].count(name.lower()) > 1})
    problems = [
        Problem(
            where,
            lines.get(name.lower(), 0),
            "sql-duplicate-column",
            f"The query gives the column {name} more than once.",
            "Name each column once.",
        )
        for name in repeated
    ]
    for name, field in declared.items():
        if name not in found:
            close = get_close_matches(name, [other for other in found if other not in declared], n=1)
            hint = f"The query gives {close[0]}: rename one of them." if close else "Add it to the query or take it from the contract."
            problems.append(
                Problem(
                    *place(close[0] if close else name, field.name),
                    "sql-missing-column",
                    f"The contract has the column {field.name}, the query does not give it.",
                    hint,
                )
            )
            continue
        fault = mismatch(found[name], field.field_type, field.name)
        if fault:
            problems.append(
                Problem(*place(name, field.name), "sql-type-mismatch", f"{fault}.", "Cast it in the query, or change the contract's type.")
            )
    for name in names:
        if name.lower() not in declared:
            hint = "Declare it in the contract or leave it out of the query."
            problems.append(
                Problem(
                    where,
                    lines.get(name.lower(), 0),
                    "sql-extra-column",
                    f"The query gives the column {name}, which the contract does not have.",
                    hint,
                )
            )
    return problems


def _incremental_problems(transform: Transform, contract: Contract, where: str) -> list[Problem]:
    if contract.incremental == "append" and transform.obstacle:
        what, line = transform.obstacle
        return [
            Problem(where, line, "sql-not-row-wise",
                    f"The query uses {what}, and incremental: append needs each output row to come from one input row.",
                    "Declare incremental: key, partition or full.")
        ]  # fmt: skip
    return key_problems(transform, contract, where, 0, "Carry the columns from an input to the output, or declare incremental: full.")


def key_problems(transform: Transform, contract: Contract, file: str, line: int, remedy: str) -> list[Problem]:
    """What is wrong when no input can be traced by the key or the partitions. Codes `<kind>-key-untraceable`."""
    if contract.incremental not in ("key", "partition") or transform.keys:
        return []
    columns = ", ".join(key_columns(contract))
    why = next(iter(transform.untraced.values()), "no input carries it")
    message = f"No input can be traced by {columns}: {why}; every change would recompute all."
    severity: Literal["error", "warning"] = "error" if contract.incremental == "key" else "warning"
    return [Problem(file, line, f"{transform.kind}-key-untraceable", message, remedy, severity)]

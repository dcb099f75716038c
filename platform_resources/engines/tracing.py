"""Which rows of a query's inputs an output key depends on, told from the text alone.

For each place where the query reads a product, `trace` finds expressions over that product's columns which equal the key columns of
every output row the input row can take part in. With them an incremental run knows which keys a changed row touches, and may read
only those keys. Whatever cannot be proven is *lost*, with the reason: a change there means recomputing all. So a wrong text costs
time, never rows. DuckDB is asked for types alone. Which columns a value is made of (lineage for people) lives here too; running a
query does not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import duckdb
from sqlglot import exp
from sqlglot.optimizer.scope import Scope

from platform_resources.engines.duck import offline_session
from platform_resources.engines.types import quote

NON_DETERMINISTIC = frozenset(
    [
        "now",
        "current_date",
        "current_time",
        "current_timestamp",
        "current_localtime",
        "current_localtimestamp",
        "localtime",
        "localtimestamp",
        "today",
        "transaction_timestamp",
        "get_current_time",
        "get_current_timestamp",
        "random",
        "rand",
        "uuid",
        "uuidv4",
        "uuidv7",
        "gen_random_uuid",
        "setseed",
        "nextval",
    ]
)


@dataclass
class Trace:
    """For each input product `domain.product`: the tuples of DuckDB expressions (one per key column, one tuple per place where it is
    read), or why it has none.
    """

    found: dict[str, set[tuple[str, ...]]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)

    def expressions(self) -> Mapping[str, tuple[tuple[str, ...], ...]]:
        """The products of which every place was traced."""
        return {product: tuple(sorted(places)) for product, places in self.found.items() if product not in self.lost}


def trace(root: Scope, keys: Sequence[str], columns: Mapping[str, Mapping[str, str]]) -> Trace:
    """Trace the output columns `keys` (dotted, in any case) of a qualified query through all its scopes.

    `columns` gives the DuckDB types of each input `domain.product`, by column name.
    """
    tracer = _Tracer(_Types(columns))
    if any(node.args.get("recursive") for node in root.expression.find_all(exp.With)):
        tracer.lose(root, "the query is recursive")
        return tracer.trace
    tracer.visit(root, [_path(key.lower()) for key in keys])
    for table in root.expression.find_all(exp.Table):  # what the walk did not come by cannot be vouched for
        if table.db and id(table) not in tracer.visited:
            tracer.trace.lost.setdefault(product_of(table), "it is read where the analysis does not reach")
    return tracer.trace


def _path(dotted: str) -> exp.Expr:
    """A column, or a field of it, as an expression; sqlglot has brought names to lower case, as DuckDB compares them."""
    first, *rest = dotted.split(".")
    result: exp.Expr = exp.column(first)
    for step in rest:
        result = exp.Dot(this=result, expression=exp.to_identifier(step))
    return result


class _Types:
    """What type DuckDB gives an expression of a scope, knowing the types of the inputs' columns."""

    def __init__(self, columns: Mapping[str, Mapping[str, str]]) -> None:
        self.columns = {product: {name.lower(): kind for name, kind in named.items()} for product, named in columns.items()}
        self._con: duckdb.DuckDBPyConnection | None = None
        self._bound: dict[str, str | None] = {}

    def of(self, term: exp.Expr, scope: Scope) -> str | None:
        """The type, e.g. `DECIMAL(18,2)`; None when it cannot be told."""
        return self._bind(self._select(term, scope))

    def of_output(self, scope: Scope, name: str) -> str | None:
        """The type of an output column of a scope."""
        return self._bind(self._output(scope, name))

    def is_exact(self, term: exp.Expr, scope: Scope) -> bool:
        """Whether values that compare equal are the same value in everything that can be computed from them."""
        kind = self.of(term, scope)
        return kind is not None and not _INEXACT.search(kind)

    def _select(self, term: exp.Expr, scope: Scope) -> str | None:
        """A query that gives the expression once, over nulls of the right types."""
        if term.find(exp.Collate, exp.Query):
            return None
        stubs: dict[str, dict[str, str]] = {}
        for column in _columns(term):
            kind = self._of_column(scope, column.table, column.name)
            if kind is None:
                return None
            stubs.setdefault(column.table, {})[column.name] = kind
        nulls = {
            alias: ", ".join(f"CAST(NULL AS {kind}) AS {quote(name)}" for name, kind in named.items()) for alias, named in stubs.items()
        }
        tables = ", ".join(f"(SELECT {columns}) AS {quote(alias)}" for alias, columns in nulls.items())
        return f"SELECT {term.sql(dialect='duckdb')}{' FROM ' + tables if tables else ''}"  # noqa: S608 - only bound, over no table

    def _of_column(self, scope: Scope, alias: str, name: str) -> str | None:
        source = scope.sources.get(alias)
        if isinstance(source, exp.Table):
            return None if _pivoted(source) else self.columns.get(product_of(source), {}).get(name)
        return self.of_output(source, name) if source is not None else None

    def _output(self, scope: Scope, name: str) -> str | None:
        expression = scope.expression
        if isinstance(expression, exp.Select):
            found = next((item.unalias() for item in expression.expressions if item.alias_or_name == name), None)
            return self._select(found, scope) if found is not None else None
        if isinstance(expression, exp.SetOperation):
            parts = [self._output(branch, inner) if inner else None for branch, inner in _branches(scope, expression, name)]
            return " UNION ALL ".join(f"({part})" for part in parts) if all(parts) else None
        return None

    def _bind(self, text: str | None) -> str | None:
        if text is None:
            return None
        if text not in self._bound:
            self._con = self._con or offline_session()
            try:
                self._bound[text] = str(self._con.sql(text).types[0])
            except duckdb.Error:
                self._bound[text] = None
        return self._bound[text]


# -0.0 equals 0.0, and 30 days equal a month, but they do not print alike; a variant equals across types.
_PLAIN = re.compile(r'"[^"]+"(\."[^"]+")*')
_INEXACT = re.compile(r"\b(FLOAT|DOUBLE|INTERVAL|TIME WITH TIME ZONE|UNION|VARIANT)\b")


class _Tracer:
    def __init__(self, types: _Types) -> None:
        self.types = types
        self.trace = Trace()
        self.visited: set[int] = set()

    def lose(self, scope: Scope, reason: str) -> None:
        """Everything read at or below a scope cannot be traced."""
        for table in products_below(scope):
            self.trace.lost.setdefault(table, reason)

    def visit(self, scope: Scope, keys: list[exp.Expr]) -> None:
        """`keys` are expressions over the scope's output columns."""
        expression = scope.expression
        if isinstance(expression, exp.SetOperation):
            self._visit_set(scope, expression, keys)
        elif isinstance(expression, exp.Select):
            self._undo_using(scope, expression)
            names = Counter(item.alias_or_name for item in expression.expressions)
            projections = {item.alias_or_name: item.unalias() for item in expression.expressions if names[item.alias_or_name] == 1}
            inner = [_substitute(key, projections) for key in keys]
            if any(key is None for key in inner):
                self.lose(scope, "a key column comes from what cannot be read (a star, COLUMNS, PIVOT, a name that two columns have)")
            else:
                self._visit_select(scope, expression, [key for key in inner if key is not None])
        else:
            self.lose(scope, "it is read by something that is no plain SELECT")

    def _visit_set(self, scope: Scope, expression: exp.SetOperation, keys: list[exp.Expr]) -> None:
        if expression.args.get("limit") or expression.args.get("offset"):
            self.lose(scope, "LIMIT depends on rows of other keys")
            return
        names = dict.fromkeys(column.name for key in keys for column in _columns(key))
        kinds = {name: self.types.of_output(scope, name) for name in names}
        unknown = next((name for name, kind in kinds.items() if kind is None), None)
        moves: dict[int, dict[str, exp.Expr]] = {}
        for name in names:
            for branch, theirs in _branches(scope, expression, name):
                if theirs:
                    moves.setdefault(id(branch), {})[name] = self._as(kinds[name], branch, theirs)
        for branch in scope.set_operation_scopes:
            moved = [_substitute(key, moves.get(id(branch), {})) for key in keys]
            if any(key is None for key in moved):
                self.lose(branch, "a key column is missing in a branch of the UNION")
            elif unknown is not None:
                self.lose(branch, f"the type that the branches of the UNION agree on for {unknown} cannot be told")
            else:
                self.visit(branch, [key for key in moved if key is not None])

    def _as(self, kind: str | None, branch: Scope, name: str) -> exp.Expr:
        """A branch's column in the type that the branches agree on: what is computed from it is computed from that."""
        column = exp.column(name)
        return column if kind is None or self.types.of_output(branch, name) == kind else exp.cast(column, kind, dialect="duckdb")

    def _undo_using(self, scope: Scope, select: exp.Select) -> None:
        """Write `COALESCE(a.k, b.k)`, which the analysis makes of a USING column, as the one column that it always equals.

        That is the left one, since the right has no value where the left has none; of a RIGHT join it is the right one.
        """
        ties = [
            (join.kind, other.sql(dialect="duckdb"), own.sql(dialect="duckdb"))
            for join in self._joins(scope, select)
            for pair in join.equalities
            for other, own in (pair, pair[::-1])
            if {column.table for column in _columns(own)} == {join.alias} and join.alias not in {column.table for column in _columns(other)}
        ]
        follows = {(other, own) for kind, other, own in ties if kind in ("inner", "left", "semi")}
        replaces = {(other, own) for kind, other, own in ties if kind == "right"}
        for node in list(_own(select, exp.Coalesce)):
            kept: dict[str, exp.Expr] = {}
            for part in (node.this, *node.expressions):
                text = part.sql(dialect="duckdb")
                if kept and (next(reversed(kept)), text) in replaces:
                    kept.popitem()
                if not any((before, text) in follows for before in kept):
                    kept[text] = part
            if len(kept) == 1:
                node.replace(kept.popitem()[1].copy())

    def _joins(self, scope: Scope, select: exp.Select) -> list[_Join]:
        """FROM, then the joins in order, then WHERE as the condition of a last one."""
        first = select.args.get("from_") or select.args.get("from")
        where = select.args.get("where")
        return [
            _Join(_alias_of(first), "inner" if first is None or _is_plain(first.this) else "unknown", ()),
            *(
                _Join(join.this.alias_or_name, _kind_of(join), self._equalities(scope, join.args.get("on"), join))
                for join in select.args.get("joins") or ()
            ),
            _Join("", "inner", self._equalities(scope, where.this if where is not None else None)),
        ]

    def _equalities(self, scope: Scope, condition: exp.Expr | None, join: exp.Join | None = None) -> tuple[tuple[exp.Expr, exp.Expr], ...]:
        """The top-level equalities of a condition whose sides are then the same value: of one type, and compared exactly.

        A comparison of two types casts one of them, and '01' = 1 does not make '01' of 1.
        """
        if condition is None:
            return ()
        parts = list(condition.flatten()) if isinstance(condition, exp.And) else [condition]
        if join is not None and _kind_of(join) == "asof" and all(isinstance(part.unnest(), exp.EQ) for part in parts):
            return ()  # ASOF ... USING: the last column stands for >=, which the analysis writes as an equality
        found = []
        for part in parts:
            plain = part.unnest()
            if not isinstance(plain, exp.EQ | exp.NullSafeEQ) or non_deterministic(plain):
                continue
            if self.types.is_exact(plain.left, scope) and self.types.of(plain.left, scope) == self.types.of(plain.right, scope):
                found.append((plain.left, plain.right))
        return tuple(found)

    def _visit_select(self, scope: Scope, select: exp.Select, keys: list[exp.Expr]) -> None:
        joins = self._joins(scope, select)
        reason = _unsafe(select, keys) or _outer_key(joins, keys) or self._inexact_key(scope, keys)
        if reason:
            self.lose(scope, reason)
            return
        reached: set[int] = set()
        for alias, node, source in _sources(scope):
            reached.add(id(source))
            equal = _usable(joins, alias)
            own = [_express(key, alias, equal) for key in keys]
            traced = [key for key in own if key is not None]
            if len(traced) < len(keys) or isinstance(node, exp.Lateral) or _pivoted(node):
                self._lose_source(source, f"no equality of equal types ties the key to {alias} in every row that it can change")
            elif isinstance(source, exp.Table):
                place = tuple(_bare(key).sql(dialect="duckdb") for key in traced)
                self.visited.add(id(source))
                self.trace.found.setdefault(product_of(source), set()).add(place)
            elif not isinstance(source.expression, exp.UDTF):
                self.visit(source, [_bare(key) for key in traced])
        for inner in (*scope.subquery_scopes, *scope.udtf_scopes):
            if id(inner) not in reached or not isinstance(inner.expression, exp.Unnest):
                self.lose(inner, "it is read in a subquery of an expression")

    def _inexact_key(self, scope: Scope, keys: list[exp.Expr]) -> str | None:
        """Values that are equal but not the same make one group, under one of their names."""
        for key in keys:
            for term in (key, *_outermost(key)):
                if not self.types.is_exact(term, scope):
                    kind = self.types.of(term, scope)
                    text = term.sql(dialect="duckdb")
                    return (
                        f"the key column {text} is {kind}, which is not compared exactly" if kind else f"the type of {text} cannot be told"
                    )
        return None

    def _lose_source(self, source: exp.Table | Scope, reason: str) -> None:
        if isinstance(source, exp.Table):
            self.trace.lost.setdefault(product_of(source), reason)
        else:
            self.lose(source, reason)


def product_of(table: exp.Table) -> str:
    """`domain.product` of a table reference."""
    return f"{table.db}.{table.name}"


def products_below(scope: Scope) -> Iterator[str]:
    """Every product read by a scope or anything it reads from, CTEs declared elsewhere included."""
    seen: set[int] = set()
    stack = [scope]
    while stack:
        current = stack.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        for _, _, source in _sources(current):
            if isinstance(source, exp.Table):
                yield product_of(source)
            else:
                stack.append(source)
        stack += [*current.subquery_scopes, *current.udtf_scopes, *current.set_operation_scopes]


def _sources(scope: Scope) -> Iterator[tuple[str, exp.Expr, exp.Table | Scope]]:
    """Alias, node and source of everything in FROM and JOIN; `selected_sources` leaves out what is semi- or anti-joined."""
    for alias, node in scope.references:
        if alias in scope.sources:
            yield alias, node, scope.sources[alias]


def _branches(scope: Scope, expression: exp.SetOperation, name: str) -> Iterator[tuple[Scope, str | None]]:
    """The branches of a set operation, and what each calls the output column `name`; None where it has none."""
    names = [item.alias_or_name for item in _leftmost(expression).expressions]
    position = names.index(name) if name in names else -1
    for branch in scope.set_operation_scopes:
        theirs = [item.alias_or_name for item in _leftmost(branch.expression).expressions]
        if expression.args.get("by_name"):
            yield branch, name if name in theirs else None
        else:
            yield branch, theirs[position] if 0 <= position < len(theirs) else None


def _leftmost(expression: exp.Expr) -> exp.Expr:
    while isinstance(expression, exp.SetOperation | exp.Subquery):
        expression = expression.this
    return expression


def _substitute(key: exp.Expr, by: Mapping[str, exp.Expr]) -> exp.Expr | None:
    """`key` with each column replaced by the expression of its name; None when one is unknown."""
    result = exp.Paren(this=key.copy())
    for column in list(result.find_all(exp.Column)):
        found = by.get(column.name)
        if found is None:
            return None
        top: exp.Expr = column
        while (step := _step_from(top)) is not None and isinstance(found, exp.Struct):
            field = next((item.expression for item in found.expressions if item.name == step.name), None)
            if field is None:
                return None
            top, found = top.parent or top, field
        plain = (
            isinstance(found, exp.Column | exp.Func) or top.parent is result or (isinstance(found, exp.Dot) and _step_from(top) is not None)
        )
        top.replace(found.copy() if plain else exp.Paren(this=found.copy()))
    inner: exp.Expr = result.this
    return inner


def _step_from(node: exp.Expr) -> exp.Expr | None:
    """The name of the field that is taken from a struct, if one is."""
    return node.parent.expression if isinstance(node.parent, exp.Dot) and node.parent.this is node else None


def _bare(key: exp.Expr) -> exp.Expr:
    """Without table qualifiers: what stands is a column of the one source."""
    result = key.copy()
    for column in [result] if isinstance(result, exp.Column) else list(result.find_all(exp.Column)):
        column.set("table", None)
    return result


def _unsafe(select: exp.Select, keys: list[exp.Expr]) -> str | None:
    """Why rows of one key could depend on rows of another in this SELECT, or None."""
    wanted = {key.sql(dialect="duckdb") for key in keys}
    for key in keys:
        if key.find(exp.AggFunc, exp.Window, exp.Query, exp.Unnest, exp.Explode):
            return f"the key {key.sql(dialect='duckdb')} is computed by an aggregate, a window or a subquery"
        if non_deterministic(key):
            return f"the key {key.sql(dialect='duckdb')} is not deterministic"
    if any(select.args.get(name) for name in ("limit", "offset", "fetch", "sample")):
        return "LIMIT or SAMPLE depends on rows of other keys"
    return _ungrouped(select, keys) or _mixing_window(select, wanted) or _mixing_distinct(select, wanted)


def _ungrouped(select: exp.Select, keys: list[exp.Expr]) -> str | None:
    """A key that is not grouped by, be it through an aggregate that sqlglot does not know as one."""
    if any(_own(select, exp.Rollup)) or any(_own(select, exp.Cube)) or any(_own(select, exp.GroupingSets)):
        return "ROLLUP, CUBE and GROUPING SETS mix keys"
    group = select.args.get("group")
    by = {part.sql(dialect="duckdb") for part in group.expressions} if group else set()
    for key in keys:
        text = key.sql(dialect="duckdb")
        if text in by or (by and all(column.sql(dialect="duckdb") in by for column in _outermost(key))):
            continue
        if by or key.find(exp.Anonymous, exp.AnonymousAggFunc):
            return f"the key {text} is not grouped by, or made by a function of unknown kind"
    return None


def _outermost(key: exp.Expr) -> list[exp.Expr]:
    """Columns with the struct path taken from them, which is how GROUP BY names them."""
    found = []
    for column in _columns(key):
        top: exp.Expr = column
        while isinstance(top.parent, exp.Dot) and top.parent.this is top:
            top = top.parent
        found.append(top)
    return found


def _mixing_window(select: exp.Select, wanted: set[str]) -> str | None:
    named = {window.this.name: window for window in select.args.get("windows") or ()}
    for window in _own(select, exp.Window):
        if window.parent is select:
            continue
        spec = named.get(window.args["alias"].name, window) if window.args.get("alias") else window
        parts = {part.sql(dialect="duckdb") for part in spec.args.get("partition_by") or ()}
        if not wanted <= parts:
            return f"a window is not partitioned by {', '.join(sorted(wanted - parts))}"
    return None


def _mixing_distinct(select: exp.Select, wanted: set[str]) -> str | None:
    distinct = select.args.get("distinct")
    if distinct is not None and distinct.args.get("on") is not None:
        names = {item.alias_or_name: item.unalias().sql(dialect="duckdb") for item in select.expressions}
        on = {
            names.get(part.name, "") if isinstance(part, exp.Column) and not part.table else part.sql(dialect="duckdb")
            for part in distinct.args["on"].expressions
        }
        if not wanted <= on:
            return f"DISTINCT ON does not name {', '.join(sorted(wanted - on))}"
    return None


def _own(select: exp.Select, kind: type[exp.Expr]) -> Iterator[exp.Expr]:
    """Nodes of a kind in a SELECT but not in the queries inside it."""
    for node in select.walk(prune=lambda node: node is not select and isinstance(node, exp.Query)):
        if isinstance(node, kind):
            yield node


JoinKind = Literal["inner", "left", "right", "full", "semi", "asof", "positional", "unknown"]


@dataclass(frozen=True)
class _Join:
    """One step of FROM: what is joined, how, and the equalities of its condition."""

    alias: str
    kind: JoinKind
    equalities: tuple[tuple[exp.Expr, exp.Expr], ...]


def _kind_of(join: exp.Join) -> JoinKind:
    """`semi` is ANTI too: both only choose rows. A LEFT ASOF join is `asof`."""
    method, side, kind = (join.method or "").upper(), (join.side or "").upper(), (join.kind or "").upper()
    if "POSITIONAL" in (method, kind):
        return "positional"
    if not _is_plain(join.this) or method not in ("", "ASOF") or kind not in ("", "INNER", "OUTER", "CROSS", "SEMI", "ANTI"):
        return "unknown"
    if method == "ASOF":
        return "asof" if side in ("", "LEFT") else "full"
    if kind in ("SEMI", "ANTI"):
        return "semi"
    return {"LEFT": "left", "RIGHT": "right", "FULL": "full"}.get(side, "inner")  # type: ignore[return-value]


def _is_plain(node: exp.Expr) -> bool:
    """Whether it is one source, not joins in parentheses."""
    return bool(node.alias_or_name) and not node.args.get("joins")


def _outer_key(joins: Sequence[_Join], keys: list[exp.Expr]) -> str | None:
    """A key from the optional side of an outer join can turn null by a change elsewhere; an ASOF join's can change its row."""
    optional: set[str] = set()
    for number, join in enumerate(joins):
        if join.kind in ("right", "full"):
            optional.update(before.alias for before in joins[:number])
        if join.kind in ("left", "full", "asof"):
            optional.add(join.alias)
        if join.kind == "positional":
            return "a positional join depends on row order"
        if join.kind == "unknown":
            return "joins in parentheses are not followed"
    for key in keys:
        for column in _columns(key):
            if column.table in optional:
                return f"the key {key.sql(dialect='duckdb')} comes from the optional side of an outer join"
    return None


def _usable(joins: Sequence[_Join], alias: str) -> dict[str, list[exp.Expr]]:
    """What each side of an equality equals, by SQL text, in every row that a row of `alias` can change.

    A row of an optional side changes rows that hold null in its place too: those it joins, by the ON of the outer join, when it comes or
    goes. For them that ON holds, with the row put back in, and no later condition on a column that is then null. For all other tables
    an outer join's ON says nothing, for it is not true of the rows that found no partner; nor does the ON of SEMI, ANTI and ASOF.
    """
    target = next((number for number, join in enumerate(joins) if join.alias == alias), len(joins))
    nulled = {alias} if target < len(joins) and joins[target].kind in ("left", "full", "asof") else set()
    torn: set[str] = set()  # what a RIGHT or FULL join has made optional so far
    graph: dict[str, list[exp.Expr]] = {}
    for number, join in enumerate(joins):
        if number == target:
            holds, avoid = join.kind not in ("right", "full"), torn
        elif number < target:
            holds = join.kind == "inner" and not any(later.kind in ("right", "full") for later in joins[number + 1 : target + 1])
            avoid = torn
        else:
            holds, avoid = join.kind in ("inner", "right"), torn | nulled
        for left, right in join.equalities if holds else ():
            if not avoid & {column.table for side in (left, right) for column in _columns(side)}:
                graph.setdefault(left.sql(dialect="duckdb"), []).append(right)
                graph.setdefault(right.sql(dialect="duckdb"), []).append(left)
        if join.kind in ("right", "full"):
            torn.update(before.alias for before in joins[:number])
    return graph


def _alias_of(node: exp.Expr | None) -> str:
    return str(node.this.alias_or_name) if node is not None and node.this is not None else ""


def _pivoted(node: exp.Expr) -> bool:
    return bool(node.args.get("pivots") or node.args.get("sample"))


def _columns(node: exp.Expr) -> list[exp.Column]:
    return [node] if isinstance(node, exp.Column) else list(node.find_all(exp.Column))


def _express(key: exp.Expr, alias: str, equal: Mapping[str, list[exp.Expr]]) -> exp.Expr | None:
    """`key` over columns of `alias` alone, using the equalities; None when there is no such form."""
    if all(column.table == alias for column in _columns(key)):
        return key.copy()
    seen, queue = {key.sql(dialect="duckdb")}, [key]
    while queue:
        for other in equal.get(queue.pop().sql(dialect="duckdb"), []):
            text = other.sql(dialect="duckdb")
            if text in seen:
                continue
            seen.add(text)
            if _columns(other) and all(column.table == alias for column in _columns(other)):
                return other.copy()
            queue.append(other)
    if isinstance(key, exp.Column | exp.Dot) or not list(key.iter_expressions()):
        return None
    result = key.copy()
    for child in list(result.iter_expressions()):
        if _columns(child):
            inner = _express(child, alias, equal)
            if inner is None:
                return None
            child.replace(inner)
    return result


def non_deterministic(node: exp.Expr) -> list[exp.Func]:
    """Calls in an expression whose answer differs from one run to the next."""
    return [call for call in node.find_all(exp.Func) if function_name(call) in NON_DETERMINISTIC]


def function_name(call: exp.Func) -> str:
    """A function's name, lower case, whether sqlglot knows it or not."""
    return (call.name if isinstance(call, exp.Anonymous) else call.sql_name()).lower()


def value_sources(root: Scope) -> dict[str, list[tuple[str, str]]]:
    """For each output column the `(domain.product, dotted path)` its value is made of; unreadable columns (stars left) are absent."""
    owners = {id(scope.expression): scope for scope in root.traverse()}
    select = _leftmost(root.expression)
    result: dict[str, list[tuple[str, str]]] = {}
    for item in select.expressions:
        if item.is_star or (item.find(exp.Star) and not item.find(exp.Count)):
            continue
        leaves: dict[tuple[str, str], None] = {}
        _collect_output(root, item.alias_or_name, (), owners, leaves, 0)
        result[item.alias_or_name] = list(leaves)
    return result


def _collect_output(
    scope: Scope, name: str, path: tuple[str, ...], owners: Mapping[int, Scope], leaves: dict[tuple[str, str], None], depth: int
) -> None:
    """Leaves of the output column `name` (and the struct path taken from it) of a scope."""
    expression = scope.expression
    if depth > 50:  # a recursive CTE refers to itself
        return
    if isinstance(expression, exp.SetOperation):
        for branch, inner in _branches(scope, expression, name):
            _collect_output(branch, inner or name, path, owners, leaves, depth + 1)
        return
    if isinstance(expression, exp.Select):
        for item in expression.expressions:
            if item.alias_or_name == name:
                _collect(item.unalias(), scope, path, owners, leaves, depth + 1)
        return
    for column in expression.find_all(exp.Column):  # UNNEST and the like: made of what they are given
        _collect(column, scope.parent or scope, (), owners, leaves, depth + 1)


def _collect(
    node: exp.Expr, scope: Scope, path: tuple[str, ...], owners: Mapping[int, Scope], leaves: dict[tuple[str, str], None], depth: int
) -> None:
    for column in _columns(node):
        query = column.find_ancestor(exp.Query)
        owner = owners.get(id(query), scope) if query is not None else scope
        steps: tuple[str, ...] = ()
        top: exp.Expr = column
        while isinstance(top.parent, exp.Dot) and top.parent.this is top and top is not node:
            top = top.parent
            steps = (*steps, top.expression.name)
        full = (*steps, *path) if top is node else steps
        source = owner.sources.get(column.table)
        if isinstance(source, exp.Table):
            leaves[(product_of(source), ".".join((column.name, *full)))] = None
        elif isinstance(source, Scope):
            _collect_output(source, column.name, full, owners, leaves, depth + 1)


def plain_path(expression: str) -> str | None:
    """A tracing expression that is a column, unchanged, as Spark names it (`page`.`page_id`); None for anything else."""
    return expression.replace("`", "``").replace('"', "`") if _PLAIN.fullmatch(expression) else None

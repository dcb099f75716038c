"""Which rows of a query's inputs an output key depends on, told from the text alone.

For each place where the query reads a product, `trace` finds expressions over that product's columns which equal the key columns of
every output row the input row can take part in. With them an incremental run knows which keys a changed row touches, and may read
only those keys. Whatever cannot be proven is *lost*, with the reason: a change there means recomputing all. So a wrong text costs
time, never rows. Which columns a value is made of (lineage for people) lives here too; running a query does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlglot import exp
from sqlglot.optimizer.scope import Scope

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


def trace(root: Scope, keys: Sequence[str]) -> Trace:
    """Trace the output columns `keys` of a qualified query through all its scopes."""
    tracer = _Tracer()
    if any(node.args.get("recursive") for node in root.expression.find_all(exp.With)):
        tracer.lose(root, "the query is recursive")
        return tracer.trace
    tracer.visit(root, [exp.column(key) for key in keys])
    for table in root.expression.find_all(exp.Table):  # what the walk did not come by cannot be vouched for
        if table.db and id(table) not in tracer.visited:
            tracer.trace.lost.setdefault(product_of(table), "it is read where the analysis does not reach")
    return tracer.trace


class _Tracer:
    def __init__(self) -> None:
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
            projections = {item.alias_or_name: item.unalias() for item in expression.expressions}
            inner = [_substitute(key, projections) for key in keys]
            if any(key is None for key in inner):
                self.lose(scope, "a key column comes from an expression that cannot be read (a star, COLUMNS or PIVOT)")
            else:
                self._visit_select(scope, expression, [key for key in inner if key is not None])
        else:
            self.lose(scope, "it is read by something that is no plain SELECT")

    def _visit_set(self, scope: Scope, expression: exp.SetOperation, keys: list[exp.Expr]) -> None:
        if expression.args.get("limit") or expression.args.get("offset"):
            self.lose(scope, "LIMIT depends on rows of other keys")
            return
        names = [item.alias_or_name for item in _leftmost(expression).expressions]
        for branch in scope.set_operation_scopes:
            theirs = [item.alias_or_name for item in _leftmost(branch.expression).expressions]
            renamed = dict(zip(names, theirs, strict=False)) if not expression.args.get("by_name") else {name: name for name in theirs}
            moved = [_substitute(key, {ours: exp.column(other) for ours, other in renamed.items()}) for key in keys]
            if any(key is None for key in moved):
                self.lose(branch, "a key column is missing in a branch of the UNION")
            else:
                self.visit(branch, [key for key in moved if key is not None])

    def _visit_select(self, scope: Scope, select: exp.Select, keys: list[exp.Expr]) -> None:
        reason = _unsafe(select, keys) or _outer_key(scope, select, keys)
        if reason:
            self.lose(scope, reason)
            return
        equal = _equalities(select)
        reached: set[int] = set()
        for alias, node, source in _sources(scope):
            reached.add(id(source))
            own = [_express(key, alias, equal) for key in keys]
            traced = [key for key in own if key is not None]
            if len(traced) < len(keys) or isinstance(node, exp.Lateral) or _pivoted(node):
                self._lose_source(source, f"no equality ties the key to {alias}")
            elif isinstance(source, exp.Table):
                place = tuple(_bare(key).sql(dialect="duckdb") for key in traced)
                self.visited.add(id(source))
                self.trace.found.setdefault(product_of(source), set()).add(place)
            elif not isinstance(source.expression, exp.UDTF):
                self.visit(source, [_bare(key) for key in traced])
        for inner in (*scope.subquery_scopes, *scope.udtf_scopes):
            if id(inner) not in reached or not isinstance(inner.expression, exp.Unnest):
                self.lose(inner, "it is read in a subquery of an expression")

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


def _leftmost(expression: exp.Expr) -> exp.Expr:
    while isinstance(expression, exp.SetOperation | exp.Subquery):
        expression = expression.this
    return expression


def _substitute(key: exp.Expr, by: Mapping[str, exp.Expr]) -> exp.Expr | None:
    """`key` with each column replaced by the expression of its name; None when one is unknown."""
    result = key.copy()
    if isinstance(result, exp.Column):
        found = by.get(result.name)
        return found.copy() if found is not None else None
    for column in list(result.find_all(exp.Column)):
        found = by.get(column.name)
        if found is None:
            return None
        column.replace(exp.Paren(this=found.copy()) if isinstance(found, exp.Binary) else found.copy())
    return result


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


def _outer_key(scope: Scope, select: exp.Select, keys: list[exp.Expr]) -> str | None:
    """A key from the optional side of an outer join can turn null by a change elsewhere."""
    optional: set[str] = set()
    seen = [_alias_of(select.args.get("from_") or select.args.get("from"))]
    for join in select.args.get("joins") or ():
        side, name = (join.side or "").upper(), join.this.alias_or_name
        if side in ("RIGHT", "FULL"):
            optional.update(seen)
        if side in ("LEFT", "FULL"):
            optional.add(name)
        if (join.method or "").upper() == "POSITIONAL" or "POSITIONAL" in (join.kind or "").upper():
            return "a positional join depends on row order"
        seen.append(name)
    for key in keys:
        for column in _columns(key):
            if column.table in optional:
                return f"the key {key.sql(dialect='duckdb')} comes from the optional side of an outer join"
    return None


def _alias_of(node: exp.Expr | None) -> str:
    return str(node.this.alias_or_name) if node is not None and node.this is not None else ""


def _pivoted(node: exp.Expr) -> bool:
    return bool(node.args.get("pivots") or node.args.get("sample"))


def _columns(node: exp.Expr) -> list[exp.Column]:
    return [node] if isinstance(node, exp.Column) else list(node.find_all(exp.Column))


def _equalities(select: exp.Select) -> dict[str, list[exp.Expr]]:
    """What each side of the top-level equalities in ON and WHERE equals, as an undirected graph by SQL text.

    Sound for outer joins too: a changed row of the optional side only touches rows of the preserved side that it equals. FULL joins
    are left out by `_outer_key`, since both their sides are optional.
    """
    graph: dict[str, list[exp.Expr]] = {}
    conditions = [join.args.get("on") for join in select.args.get("joins") or ()]
    where = select.args.get("where")
    conditions.append(where.this if where is not None else None)
    for condition in conditions:
        if condition is None:
            continue
        parts = condition.flatten() if isinstance(condition, exp.And) else [condition]
        for part in parts:
            plain = part.unnest()
            if isinstance(plain, exp.EQ | exp.NullSafeEQ):
                graph.setdefault(plain.left.sql(dialect="duckdb"), []).append(plain.right)
                graph.setdefault(plain.right.sql(dialect="duckdb"), []).append(plain.left)
    return graph


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
        names = [item.alias_or_name for item in _leftmost(expression).expressions]
        position = names.index(name) if name in names else -1
        for branch in scope.set_operation_scopes:
            theirs = [item.alias_or_name for item in _leftmost(branch.expression).expressions]
            inner = name if expression.args.get("by_name") else (theirs[position] if 0 <= position < len(theirs) else name)
            _collect_output(branch, inner, path, owners, leaves, depth + 1)
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

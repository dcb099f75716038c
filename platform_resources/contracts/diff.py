"""What changed between two versions of a contract, and whether readers and producers of the product survive it.

additive: something new that breaks nobody. widening: what was promised holds for fewer cases, old data stays readable.
breaking: a reader or a producer must change. documentation: words only.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from platform_resources.contracts.domains import read_domain
from platform_resources.contracts.durations import show_duration
from platform_resources.contracts.findings import a
from platform_resources.contracts.iceberg import partition_columns, type_name, widens
from platform_resources.contracts.model import Check, Column, Contract, Domain
from platform_resources.contracts.reading import read_contract
from platform_resources.contracts.registry import DOMAIN_FILE, PRODUCTS, Registry
from platform_resources.errors import PlatformError, Problem

Kind = Literal["additive", "widening", "breaking", "documentation"]
_RELIED_ON = ("active", "deprecated")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")


@dataclass(frozen=True)
class Change:
    """One difference: its kind, the dotted path it concerns, one readable clause."""

    kind: Kind
    path: str
    message: str


def diff(old: Contract, new: Contract) -> list[Change]:
    """Every difference between two versions of one product, breaking ones first."""
    changes = [
        *_columns("", old.columns, new.columns, new), *_table(old, new), *_checks(old, new), *_stream(old, new), *_published(old, new),
        *_promises(old, new),
    ]  # fmt: skip
    order: tuple[Kind, ...] = ("breaking", "widening", "additive", "documentation")
    return sorted(changes, key=lambda change: order.index(change.kind))


# ---- columns -----------------------------------------------------------------------------------------------------------------------


def _columns(parent: str, old: tuple[Column, ...], new: tuple[Column, ...], contract: Contract) -> Iterator[Change]:
    before, after = {c.name: c for c in old}, {c.name: c for c in new}
    for name, column in before.items():
        path = f"{parent}{name}"
        if name not in after:
            yield Change("breaking", path, f"column {path} was removed")
        else:
            yield from _column(path, column, after[name], contract)
    for name, column in after.items():
        path = f"{parent}{name}"
        if name not in before and column.required:
            yield Change("breaking", path, f"required column {path} was added, which old rows do not have")
        elif name not in before and column.must_be_present and contract.is_stream:
            yield Change("breaking", path, f"column {path} was added, and events without it are refused")
        elif name not in before:
            yield Change("additive", path, f"column {path} ({type_name(column)}) was added")


def _column(path: str, old: Column, new: Column, contract: Contract) -> Iterator[Change]:
    if _nested_kind(old) != _nested_kind(new) or (not old.children() and (old.type, old.is_json) != (new.type, new.is_json)):
        kind: Kind = "widening" if not old.children() and not new.children() and _widens(old, new) else "breaking"
        yield Change(kind, path, f"column {path} changed from {type_name(old)} to {type_name(new)}")
    elif old.fields:
        yield from _columns(f"{path}.", old.fields, new.fields, contract)
    else:
        for before, after in zip(old.children(), new.children(), strict=True):
            yield from _column(f"{path}.{before.name}", before, after, contract)
    if old.required and not new.required:
        yield Change("widening", path, f"column {path} may now be null")
    elif new.required and not old.required:
        yield Change("breaking", path, f"column {path} became required")
    elif contract.is_stream and old.must_be_present != new.must_be_present:
        kind = "breaking" if new.must_be_present else "widening"
        yield Change(kind, path, f"events without {path} are {'refused' if new.must_be_present else 'accepted'} now")
    if old.unit != new.unit:
        yield Change("breaking" if old.unit else "documentation", path, f"the unit of {path} changed from {old.unit} to {new.unit}")
    if old.closed != new.closed and old.fields:
        yield Change(
            "breaking" if new.closed else "widening", path, f"{path} {'no longer' if new.closed else 'now'} accepts undeclared fields"
        )
    if contract.is_stream:
        yield from _constraints(path, old, new)
    if (old.description, old.business_name, old.tags, old.classification) != (
        new.description,
        new.business_name,
        new.tags,
        new.classification,
    ):
        yield Change("documentation", path, f"the description, tags or classification of {path} changed")


def _nested_kind(column: Column) -> str:
    return "struct" if column.fields else "list" if column.element else "map" if column.value else "value"


def _widens(old: Column, new: Column) -> bool:
    return old.is_json == new.is_json and widens(old.type, new.type)


def _constraints(path: str, old: Column, new: Column) -> Iterator[Change]:
    """A producer's side: what the gate accepted must still be accepted."""
    gone = [word for word in old.enum if word not in new.enum] if new.enum else []
    added = [word for word in new.enum if word not in old.enum]
    if gone or (new.enum and not old.enum):
        yield Change("breaking", path, f"{path} no longer accepts {', '.join(map(str, gone)) or 'values outside its new enum'}")
    elif (old.enum and added) or (old.enum and not new.enum):
        yield Change("widening", path, f"{path} also accepts {', '.join(map(str, added)) or 'any value'}")
    for word in sorted({*old.options, *new.options}):
        before, after = old.options.get(word), new.options.get(word)
        if before != after:
            tighter = before is None or (after is not None and _tighter(word, before, after))
            yield Change("breaking" if tighter else "widening", path, f"{word} of {path} changed from {before} to {after}")
    if (old.json_schema, old.extra_schema) != (new.json_schema, new.extra_schema):
        loose = not new.json_schema and not new.extra_schema
        yield Change("widening" if loose else "breaking", path, f"the event schema of {path} changed")


def _tighter(word: str, before: Any, after: Any) -> bool:
    if word in _UPPER:
        return bool(after < before)
    if word in _LOWER:
        return bool(after > before)
    return True


# ---- the rest ----------------------------------------------------------------------------------------------------------------------


def _table(old: Contract, new: Contract) -> Iterator[Change]:
    if old.primary_key != new.primary_key:
        yield Change("breaking", "", f"the primary key changed from {_list(old.primary_key)} to {_list(new.primary_key)}")
    if partition_columns(old) != partition_columns(new):
        before, after = (_list([f"{how}({path})" for path, how in partition_columns(c)]) for c in (old, new))
        yield Change("additive", "", f"the partitions changed from {before} to {after}, which no reader sees")
    if old.write_mode != new.write_mode:
        yield Change("breaking", "", f"the writeMode changed from {old.write_mode} to {new.write_mode}")
    for what, before_, after_ in (
        ("incremental", old.incremental, new.incremental),
        ("incrementalKey", _list(old.incremental_key), _list(new.incremental_key)),
        ("mergeStrategy", old.merge_strategy, new.merge_strategy),
        ("sequence", _list(old.sequence), _list(new.sequence)),
        ("deleteMarker", _marker(old), _marker(new)),
        ("sortOrder", _list(old.sort_order), _list(new.sort_order)),
    ):
        if before_ != after_:
            yield Change("additive", "", f"{what} changed from {before_} to {after_}, which no reader sees")


def _marker(contract: Contract) -> str:
    return "=".join(part for part in contract.delete_marker or ("none",) if part is not None)


# ---- checks ------------------------------------------------------------------------------------------------------------------------

_SCOPES = ("commit", "partition", "table")


def _checks(old: Contract, new: Contract) -> Iterator[Change]:
    """A blocking check that lets no bad row through is a promise that readers build on: to loosen it is breaking.

    Other checks are alarms whose numbers are tuned in use; loosening them asks for a version only, as does a query that reads
    differently, for nobody can tell what it means.
    """
    after = {check.name: check for check in new.checks}
    renamed = {_rule(check): check.name for check in new.checks if check.name not in {c.name for c in old.checks}}
    for before in old.checks:
        kind: Kind = "breaking" if _is_promise(before) else "widening"
        if before.name in after:
            yield from _check(before, after[before.name], kind)
        elif _rule(before) in renamed:
            yield Change("documentation", "", f"the check {before.name} is called {renamed[_rule(before)]} now")
        else:
            yield Change(kind, "", f"the check {before.name} was removed")
    known = {check.name for check in old.checks} | {renamed[_rule(check)] for check in old.checks if _rule(check) in renamed}
    for name in sorted(after.keys() - known):
        yield Change("additive", "", f"the check {name} was added")


def _check(old: Check, new: Check, loosened: Kind) -> Iterator[Change]:
    said = f"the check {old.name}"
    if old.blocking and not new.blocking:
        yield Change(loosened, "", f"{said} only warns now")
    elif new.blocking and not old.blocking:
        yield Change("additive", "", f"{said} blocks publication now")
    if (old.metric, old.column) != (new.metric, new.column):
        yield Change(loosened, "", f"{said} measures {_subject(new)} instead of {_subject(old)}")
        return
    if old.query != new.query:
        yield Change("widening", "", f"the query of {said} changed")
    if (old.operator, old.threshold, old.unit) != (new.operator, new.threshold, new.unit):
        how: Kind = loosened if _is_zero(old) and not _is_zero(new) else "additive" if _is_tighter(old, new) else "widening"
        yield Change(how, "", f"{said} asks {_demand(new)} instead of {_demand(old)}")
    if set(old.columns) != set(new.columns):  # unique in fewer columns is unique in more
        how = "additive" if set(new.columns) < set(old.columns) else loosened
        yield Change(how, "", f"{said} is on {_list(new.columns)} instead of {_list(old.columns)}")
    for word in sorted({*old.arguments, *new.arguments} - {"properties"}):
        before, after = old.arguments.get(word), new.arguments.get(word)
        if before != after:
            how = "additive" if _allows_less(word, before, after) else loosened
            yield Change(how, "", f"{word} of {said} changed from {before} to {after}")
    if old.scope != new.scope:
        narrower = _SCOPES.index(new.scope) < _SCOPES.index(old.scope) and not old.row_wise
        yield Change(loosened if narrower else "additive", "", f"{said} judges the {new.scope} instead of the {old.scope}")


def _rule(check: Check) -> str:
    """What a check asks, whatever it is called."""
    asked = (check.metric, check.column, check.columns, dict(check.arguments), check.query, check.severity, check.scope)
    return repr((asked, check.operator, check.threshold, check.unit))


def _is_zero(check: Check) -> bool:
    return check.operator in ("mustBe", "mustBeLessOrEqualTo") and check.threshold == (0,)


def _is_promise(check: Check) -> bool:
    return check.blocking and check.metric != "rowCount" and _is_zero(check)


def _is_tighter(old: Check, new: Check) -> bool:
    """Whether whatever keeps the new threshold also kept the old one; False where that cannot be told."""
    if _is_zero(new):  # nothing at all: less than any number of rows or percent
        return "Less" in old.operator
    if (old.operator, old.unit) != (new.operator, new.unit):
        return False
    if "Less" in old.operator:
        return new.threshold < old.threshold
    if "Greater" in old.operator:
        return new.threshold > old.threshold
    return old.operator == "mustBeBetween" and old.threshold[0] <= new.threshold[0] and new.threshold[1] <= old.threshold[1]


def _allows_less(word: str, before: Any, after: Any) -> bool:
    """Whether an argument finds at least the bad rows that it found before."""
    if word == "missingValues":
        return all(value in (after or (None, "")) for value in before or (None, ""))
    if before is None or after is None:
        return before is None
    if word == "validValues":
        return all(value in before for value in after)
    return word != "pattern" and _tighter(word, before, after)


def _subject(check: Check) -> str:
    return f"{check.metric} of {check.column}" if check.column else check.metric


def _demand(check: Check) -> str:
    return f"{check.operator} {' and '.join(f'{bound:g}' for bound in check.threshold)} {check.unit}"


# ---- streams and promises ----------------------------------------------------------------------------------------------------------


def _stream(old: Contract, new: Contract) -> Iterator[Change]:
    if old.is_stream != new.is_stream:
        yield Change("breaking", "", "the product became a stream" if new.is_stream else "the product is no stream any more")
        return
    if not new.is_stream or old.source is None or new.source is None:
        return
    if old.source.stream != new.source.stream:
        yield Change("breaking", "", f"the stream changed from {old.source.stream} to {new.source.stream}")
    if lost := [topic for topic in old.source.topics if topic not in new.source.topics]:
        yield Change("breaking", "", f"the topic {_list(lost)} is no longer read")
    if gained := [topic for topic in new.source.topics if topic not in old.source.topics]:
        yield Change("additive", "", f"the topic {_list(gained)} is read too")
    yield from _accepted(old, new)
    for what, before, after in (("eventTime", old.event_time, new.event_time), ("dedupeKey", old.dedupe_key, new.dedupe_key)):
        if before != after:
            yield Change("breaking", after, f"the {what} changed from {before} to {after}")


def _accepted(old: Contract, new: Contract) -> Iterator[Change]:
    """What the gate takes: a producer's side, as a whole."""
    if old.event_title != new.event_title:
        yield Change(
            "breaking", "", f"the schemaTitle changed from {old.event_title} to {new.event_title}, so events of the old are refused"
        )
    if (majors := (_numbers(old.version)[0], _numbers(new.version)[0]))[0] != majors[1]:
        yield Change("breaking", "", f"the major version changed from {majors[0]} to {majors[1]}, so events of the old are refused")
    if old.closed != new.closed:
        yield Change(
            "breaking" if new.closed else "widening", "", f"the event {'no longer' if new.closed else 'now'} accepts undeclared fields"
        )
    if (old.json_schema, old.extra_schema) != (new.json_schema, new.extra_schema):
        yield Change("breaking", "", "the event schema's rules on the whole event changed")
    if new.max_event_bytes != old.max_event_bytes:
        kind: Kind = "breaking" if new.max_event_bytes < old.max_event_bytes else "widening"
        yield Change(kind, "", f"maxEventBytes changed from {old.max_event_bytes} to {new.max_event_bytes}")


def _published(old: Contract, new: Contract) -> Iterator[Change]:
    """A reader's side: where the files are looked for, how often, and what is in them."""
    before, after = old.publication, new.publication
    if before is None or after is None:
        if before is not after:
            yield Change(
                "breaking" if before else "additive", "", "no files are published any more" if before else "files are published too"
            )
        return
    facts: tuple[tuple[str, Kind, Any, Any], ...] = (
        ("kind", "breaking", before.kind, after.kind),
        ("connection", "breaking", before.connection, after.connection),
        ("path", "breaking", before.path, after.path),
        ("cadence", "breaking", before.slices.cadence, after.slices.cadence),
        ("revisions", "breaking", before.revisions, after.revisions),
        ("text", "breaking", before.text, after.text),
        ("start", "additive", before.slices.start.date(), after.slices.start.date()),
        ("fileSize", "additive", before.file_bytes, after.file_bytes),
    )
    for what, kind, was, now in facts:
        if was != now:
            yield Change(kind, "", f"the {what} of the published files changed from {was} to {now}")


def _promises(old: Contract, new: Contract) -> Iterator[Change]:
    if new.sla.retention is not None and (old.sla.retention is None or new.sla.retention < old.sla.retention):
        was = show_duration(old.sla.retention) if old.sla.retention else "for ever"
        yield Change("breaking", "", f"data is kept {show_duration(new.sla.retention)} instead of {was}")
    if old.sla.latency is not None and (new.sla.latency is None or new.sla.latency > old.sla.latency):
        yield Change("widening", "", f"the promised latency of {show_duration(old.sla.latency)} became {_length(new)}")
    gone = sorted(set(old.readers) - set(new.readers)) if old.readers and new.readers else []
    if gone or (old.readers is None and new.readers is not None):
        yield Change("breaking", "", f"{' and '.join(gone) or 'who has no role'} may no longer read it")
    elif old.readers != new.readers:
        yield Change("widening", "", "more may read it")
    words = [(c.title, c.description, c.purpose, c.limitations, c.usage, c.status, c.owners, c.tags) for c in (old, new)]
    if words[0] != words[1]:
        yield Change("documentation", "", "title, words, status, owners or tags changed")


def _length(contract: Contract) -> str:
    return show_duration(contract.sla.latency) if contract.sla.latency else "none"


def _list(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names) or "none"


# ---- against a git ref -------------------------------------------------------------------------------------------------------------


def check_against(project: Path, git_ref: str) -> list[Problem]:
    """Problems of the working tree's contracts held against those of a git ref: breaking changes, and a version left unraised.

    A breaking change is an error where the old contract was active (or deprecated: others still read it), else a warning.

    Raises:
        PlatformError: `git-ref-unknown`, or `git-missing` outside of a repository.
    """
    project = project.resolve()
    registry = Registry.load(project)
    problems: list[Problem] = []
    for path, old in _old_contracts(project, git_ref):
        key = f"{path.parent.name}/{path.stem}"
        if isinstance(old, Problem):
            problems.append(old)
        elif not (project / path).exists():
            problems += _removed(str(path), old)
        elif key in registry.contracts:
            problems += _compared(str(path), old, registry.contracts[key])
    return problems


def changes_against(project: Path, git_ref: str) -> Mapping[str, list[Change]]:
    """Every change of every product against a git ref, by key; new products are absent. Raises as `check_against`."""
    project = project.resolve()
    registry = Registry.load(project)
    changed = {}
    for path, old in _old_contracts(project, git_ref):
        new = registry.contracts.get(f"{path.parent.name}/{path.stem}")
        if isinstance(old, Contract) and new is not None and (found := diff(old, new)):
            changed[new.key] = found
    return changed


def _compared(file: str, old: Contract, new: Contract) -> list[Problem]:
    return [*_status_lowered(file, old, new), *_version_lowered(file, old, new), *_changed(file, old, new)]


def _status_lowered(file: str, old: Contract, new: Contract) -> list[Problem]:
    if old.status not in _RELIED_ON or new.status not in ("proposed", "draft"):
        return []
    return [
        Problem(
            file,
            new.lines.get(("status",), 1),
            "contract-status-lowered",
            f"The {old.status} product {new.key} becomes {a(new.status)}, but others may rely on it.",
            "Keep it active, or set it to status: deprecated.",
        )
    ]


def _version_lowered(file: str, old: Contract, new: Contract) -> list[Problem]:
    if _numbers(new.version) >= _numbers(old.version):
        return []
    return [
        Problem(
            file,
            new.lines.get(("version",), 1),
            "contract-version-lowered",
            f"The version of {new.key} goes back from {old.version} to {new.version}.",
            "Raise the version instead.",
            "error" if old.status in _RELIED_ON else "warning",
        )
    ]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _changed(file: str, old: Contract, new: Contract) -> list[Problem]:
    changes = diff(old, new)
    breaking = [change for change in changes if change.kind == "breaking"]
    if breaking:
        line = next((new.column(change.path).line for change in breaking if new.has_column(change.path)), 1)
        relied = old.status in _RELIED_ON
        return [
            Problem(
                file,
                line,
                "contract-breaking-change",
                f"The {old.status} product {new.key} changes in a breaking way: {'; '.join(change.message for change in breaking)}.",
                _way_out(file, new) if relied else f"Rebuild it with --recreate when it is merged ({new.key} is a draft).",
                "error" if relied else "warning",
            )
        ]
    if old.version == new.version and any(change.kind != "documentation" for change in changes):
        what = "; ".join(change.message for change in changes if change.kind != "documentation")
        return [
            Problem(
                file,
                new.lines.get(("version",), 1),
                "contract-version-unchanged",
                f"The product {new.key} changes but its version stays {new.version}: {what}.",
                "Raise the version.",
                "warning",
            )
        ]
    return []


def _removed(file: str, old: Contract) -> list[Problem]:
    if old.status == "active":
        message = f"The active product {old.key} is removed, but others may read it."
        return [Problem(file, 0, "contract-removed", message, "Restore it with status: deprecated, and remove it when nobody reads it.")]
    return [
        Problem(
            file,
            0,
            "contract-removed",
            f"The {old.status} product {old.key} is removed.",
            "Its table stays until it is dropped.",
            "warning",
        )
    ]


def _way_out(file: str, contract: Contract) -> str:
    match = re.fullmatch(r"(.+)_v(\d+)", contract.name)
    name = f"{match[1]}_v{int(match[2]) + 1}" if match else f"{contract.name}_v2"
    return f"Make it a new product, {Path(file).with_name(name + '.yaml')}, and set this one to status: deprecated as it was."


def _old_contracts(project: Path, git_ref: str) -> Iterator[tuple[Path, Contract | Problem]]:
    """The contracts of a ref whose file, or whose domain's file, differs from the working tree's."""
    _git(project, "rev-parse", "--verify", "--quiet", f"{git_ref}^{{commit}}", ref=git_ref)
    changed = {Path(name) for name in _git(project, "diff", "--name-only", "--relative", git_ref, "--", PRODUCTS).splitlines()}
    there = [Path(name) for name in _git(project, "ls-tree", "-r", "--name-only", git_ref, "--", PRODUCTS).splitlines()]
    domains: dict[str, Domain] = {}
    for path in there:
        if path.suffix != ".yaml" or path.name == DOMAIN_FILE or len(path.parts) != 3:
            continue
        if path not in changed and path.with_name(DOMAIN_FILE) not in changed:
            continue
        folder = project / path.parent
        if folder.name not in domains:
            domains[folder.name] = _old_domain(project, git_ref, folder, there)
        text = _git(project, "show", f"{git_ref}:./{path}")
        old, problems = read_contract(project / path, domain=domains[folder.name], project=project, text=text)
        if old is not None:
            yield path, old
        else:
            first = problems[0].message if problems else ""
            message = f"The contract as of {git_ref} cannot be read, so the change is not checked: {first}"
            yield path, Problem(str(path), 0, "contract-old-unreadable", message, "Compare by hand.", "warning")


def _old_domain(project: Path, git_ref: str, folder: Path, there: list[Path]) -> Domain:
    path = folder.relative_to(project) / DOMAIN_FILE
    text = _git(project, "show", f"{git_ref}:./{path}") if path in there else ""
    domain, _ = read_domain(folder, project=project, text=text)
    return domain or Domain(folder.name, folder, owners=("team:unknown",))


def _git(project: Path, *words: str, ref: str = "") -> str:
    try:
        done = subprocess.run(["git", "-C", str(project), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise PlatformError("git-missing", "The program git is not installed.", "Install git to compare contracts.") from None
    if done.returncode == 0:
        return done.stdout
    if "not a git repository" in done.stderr:
        raise PlatformError("git-missing", f"The folder {project} is in no git repository.", "Run it inside of the repository.")
    if ref:
        raise PlatformError("git-ref-unknown", f"There is no commit, branch or tag {ref}.", "Fetch it, or name another.")
    raise PlatformError("git-failed", f"git {words[0]} failed: {done.stderr.strip()}.", "Run it by hand to see why.")

"""A contract as Dagster sees it: asset spec, check specs, column schema. The one module of this package that imports Dagster."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from platform_resources.contracts.durations import show_duration
from platform_resources.contracts.iceberg import partition_columns, partition_name, table_schema, type_name
from platform_resources.contracts.model import Check, Column, Contract
from platform_resources.contracts.quality import expectation
from platform_resources.contracts.registry import Registry
from platform_resources.runs import code_version as code_version_of

MAX_KINDS = 10
_SHORTEST_FRESHNESS = timedelta(seconds=60)  # Dagster evaluates freshness once a minute and refuses less
_TAG_KEY = re.compile(r"[A-Za-z0-9_.-]{1,63}")


def asset_spec(
    contract: Contract, *, registry: Registry, deps: Iterable[Any] = (), kinds: Iterable[str] = (), code_version: str | None = None
) -> dg.AssetSpec:
    """The asset of a contract: key `[domain, product]`, group the domain, everything else from the contract.

    Args:
        contract: the product.
        registry: where the domain's title and on-call channel are looked up.
        deps: upstream asset keys.
        kinds: what fills it (`sql`, `duckdb`, `python`, ...); `iceberg` and, for a stream, `stream` are added; ten at most.
        code_version: the transform's content hash; default: the contract's fingerprint, since a stream has no code of its own.
    """
    return dg.AssetSpec(
        key=[contract.domain, contract.name],
        deps=list(deps),
        description=markdown(contract),
        group_name=contract.domain,
        owners=list(contract.owners),
        tags=_tags(contract),
        kinds=_kinds(contract, kinds),
        code_version=code_version or code_version_of(contract.fingerprint),
        freshness_policy=freshness_policy(contract),
        metadata=_metadata(contract, registry),
    )


def freshness_policy(contract: Contract) -> dg.FreshnessPolicy | None:
    """Fails when nothing new came for the promised latency (at least 60 s), warns at three quarters of it; None without a promise."""
    if contract.sla.latency is None:
        return None
    fail = max(_SHORTEST_FRESHNESS, contract.sla.latency)
    warn = fail * 0.75
    return dg.FreshnessPolicy.time_window(fail_window=fail, warn_window=warn if warn >= _SHORTEST_FRESHNESS else None)


_CRON = {"hourly": "0 * * * *", "daily": "0 0 * * *", "weekly": "0 0 * * 1", "monthly": "0 0 1 * *", "yearly": "0 0 1 1 *"}


def partitions_of(contract: Contract) -> dg.TimeWindowPartitionsDefinition | None:
    """The slices as Dagster's partitions, the one that has begun and not ended among them; None without slices."""
    slices = contract.slices
    if slices is None:
        return None
    return dg.TimeWindowPartitionsDefinition(
        start=slices.key(slices.start), fmt=slices.key_format, cron_schedule=_CRON[slices.cadence], timezone="UTC", end_offset=1
    )


def asset_check_specs(contract: Contract) -> list[dg.AssetCheckSpec]:
    """One asset check per quality rule; blocking ones are those of severity error."""
    return [
        dg.AssetCheckSpec(
            name=check.name,
            asset=dg.AssetKey([contract.domain, contract.name]),
            description=_check_description(check),
            blocking=check.blocking,
            metadata={"metric": check.metric, "scope": check.scope, "severity": check.severity, "dimension": check.dimension or ""},
        )
        for check in contract.checks
    ]


def column_schema(contract: Contract) -> dg.TableSchema:
    """The table's columns (the platform's own included) with types, descriptions, constraints and tags; nested fields dotted."""
    declared = dict(contract.walk())
    columns = []
    for column_field in table_schema(contract).fields:
        top = declared.get(column_field.name)
        if top is None:
            columns.append(
                dg.TableColumn(
                    column_field.name,
                    str(column_field.field_type),
                    column_field.doc,
                    dg.TableColumnConstraints(nullable=not column_field.required),
                )
            )
            continue
        columns += [_table_column(path, column) for path, column in top.walk()]
    constraints = [f"primary key ({', '.join(contract.primary_key)})"] if contract.primary_key else []
    constraints += [f"partitioned by {partition_name(path, transform)}" for path, transform in partition_columns(contract)]
    return dg.TableSchema(columns=columns, constraints=dg.TableConstraints(other=constraints) if constraints else None)


def _table_column(path: str, column: Column) -> dg.TableColumn:
    return dg.TableColumn(
        name=path,
        type=type_name(column),
        description=column.description or None,
        constraints=dg.TableColumnConstraints(nullable=not column.required, unique=column.unique, other=_constraints(column)),
        tags={tag.replace(":", "/", 1): "" for tag in column.tags if _TAG_KEY.fullmatch(tag.replace(":", "", 1))} or None,
    )


def _constraints(column: Column) -> list[str]:
    found = [f"{word}: {value}" for word, value in column.options.items()]
    if column.enum:
        found.append("one of " + ", ".join(str(word) for word in column.enum))
    if column.unit:
        found.append(f"unit: {column.unit}")
    if column.classification:
        found.append(f"classification: {column.classification}")
    return found


def _check_description(check: Check) -> str:
    said = check.description or expectation(check)
    return f"{said[:1].upper()}{said[1:]}" + ("" if said.endswith(".") else ".")


def _tags(contract: Contract) -> dict[str, str]:
    tags = {"sdp/status": contract.status, "sdp/classification": contract.classification}
    for tag in contract.tags:
        key, _, value = tag.partition(":")
        if _TAG_KEY.fullmatch(key) and re.fullmatch(r"[A-Za-z0-9_.-]{0,63}", value):
            tags[key] = value
    return tags


def _kinds(contract: Contract, given: Iterable[str]) -> set[str]:
    wanted = ["iceberg", *(["stream"] if contract.is_stream else []), *given]
    return set(list(dict.fromkeys(wanted))[:MAX_KINDS])


def markdown(contract: Contract) -> str:
    """The asset's description: what it is, then purpose, limits and usage where the contract says more."""
    parts = [contract.description or contract.title]
    if contract.purpose and contract.purpose != contract.description:
        parts.append(f"**Purpose.** {contract.purpose}")
    if contract.limitations:
        parts.append(f"**Limits.** {contract.limitations}")
    if contract.usage:
        parts.append(f"**Usage.** {contract.usage}")
    return "\n\n".join(parts)


def _metadata(contract: Contract, registry: Registry) -> dict[str, Any]:
    domain = registry.domains.get(contract.domain)
    path = contract.path.relative_to(registry.project) if contract.path.is_relative_to(registry.project) else contract.path
    metadata: dict[str, Any] = {
        "dagster/column_schema": column_schema(contract),
        "dagster/table_name": contract.identifier,
        "sdp/contract": str(path),
        "sdp/contract_version": contract.version,
        "sdp/status": contract.status,
        "sdp/owners": ", ".join(contract.owners),
        "sdp/support": ", ".join(channel.channel for channel in contract.support) or "none",
        "sdp/write_mode": contract.write_mode,
    }
    if domain is not None and domain.on_call:
        metadata["sdp/on_call"] = ", ".join(domain.on_call)
    if contract.is_stream and contract.source is not None:
        metadata["sdp/stream"] = contract.source.stream or ""
    elif contract.lands and contract.source is not None:
        metadata["sdp/source"] = contract.source.kind
    else:
        metadata["sdp/incremental"] = contract.incremental
    for name in ("latency", "retention"):
        length = getattr(contract.sla, name)
        if length is not None:
            metadata[f"sdp/{name}"] = show_duration(length)
    return metadata


def render(spec: dg.AssetSpec) -> dict[str, Any]:
    """Plain data of a spec, the same on every run, so that a change of any asset shows in review."""
    policy = spec.freshness_policy
    return {
        "key": spec.key.to_user_string(),
        "group": spec.group_name,
        "description": spec.description,
        "owners": sorted(spec.owners),
        "kinds": sorted(spec.kinds),
        "tags": {key: value for key, value in sorted(spec.tags.items()) if not key.startswith("dagster/kind/")},
        "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
        "code_version": spec.code_version,
        "freshness": None if policy is None else _render_policy(policy),
        "metadata": {key: _render_value(value) for key, value in sorted(spec.metadata.items())},
    }


def _render_policy(policy: Any) -> dict[str, str]:
    windows = {"fail": getattr(policy, "fail_window", None), "warn": getattr(policy, "warn_window", None)}
    return {name: show_duration(timedelta(days=w.days, seconds=w.seconds)) for name, w in windows.items() if w is not None}


def _render_value(value: Any) -> Any:
    inner = getattr(value, "value", value)
    schema = inner if isinstance(inner, dg.TableSchema) else getattr(value, "schema", None)
    if isinstance(schema, dg.TableSchema):
        return {
            "columns": [_render_column(column) for column in schema.columns],
            "constraints": list(schema.constraints.other) if schema.constraints else [],
        }
    if isinstance(inner, dg.TableColumnLineage):
        deps = sorted(inner.deps_by_column.items())
        return {column: sorted(f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in found) for column, found in deps}
    if inner is None or isinstance(inner, str | int | float | bool):
        return inner
    if isinstance(inner, Sequence):
        return [_render_value(part) for part in inner]
    return {str(key): _render_value(part) for key, part in sorted(inner.items())} if isinstance(inner, dict) else str(inner)


def _render_column(column: dg.TableColumn) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.type,
        "description": column.description,
        "nullable": column.constraints.nullable,
        "unique": column.constraints.unique,
        "other": list(column.constraints.other or ()),
        "tags": dict(column.tags or {}),
    }

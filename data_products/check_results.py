"""Outcomes of quality checks as Dagster records them: of an audit, yielded by the asset; of a drain, logged while it runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import dagster as dg
from dagster import AssetCheckEvaluation
from dagster._core.definitions.metadata import normalize_metadata
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status

from platform_resources.contracts.model import Check, Contract
from platform_resources.contracts.specs import asset_check_specs
from platform_resources.engines.audit import CheckOutcome
from platform_resources.runs import SAMPLE, asset_key_parts

SHOWN_ROWS = 5
REMEMBERED_RESULTS = 100  # retries of a failing product come at most once an hour
STANDING = "sdp/standing_since"  # the run that evaluated the check; no row has changed since


def check_results(contract: Contract, outcomes: Iterable[CheckOutcome]) -> list[dg.AssetCheckResult]:
    """Results to yield from the product's asset."""
    return [
        dg.AssetCheckResult(
            asset_key=dg.AssetKey(asset_key_parts(contract.key)),
            check_name=name,
            passed=outcome.passed,
            severity=_severity(outcome.check),
            description=_sentence(outcome),
            metadata=_metadata(outcome),
        )
        for name, outcome in _named(contract, outcomes)
    ]


def check_evaluations(contract: Contract, outcomes: Iterable[CheckOutcome]) -> list[AssetCheckEvaluation]:
    """Evaluations to log from a drain, which has no output to tie them to."""
    return [
        AssetCheckEvaluation(
            asset_key=dg.AssetKey(asset_key_parts(contract.key)),
            check_name=name,
            passed=outcome.passed,
            severity=_severity(outcome.check),
            description=_sentence(outcome),
            metadata=normalize_metadata(_metadata(outcome)),
            blocking=outcome.check.blocking,
        )
        for name, outcome in _named(contract, outcomes)
    ]


def standing_evaluations(
    context: dg.AssetExecutionContext, contract: Contract, told: Collection[str] = (), *, published: Collection[str] | None = None
) -> list[AssetCheckEvaluation]:
    """The last results of those checks that this run was to evaluate and had no new row for: what was found still holds.

    Dagster plans every selected check when a run starts and shows one without a result as skipped, so that a heartbeat would hide what
    the last real audit found. A result that kept a write from being published says nothing about the published rows; it is left out.

    Args:
        context: of the run, which evaluates the checks of `told` itself.
        contract: the product.
        told: names, in the contract, of the checks that have a result already.
        published: the runs that made the product's history, where the published rows are known to be all that there is to check: then
            a refused write in between, a mistake since reverted say, is passed over. Without it only the very last result can stand.
    """
    last: list[AssetCheckEvaluation] = []
    for check, spec in zip(contract.checks, asset_check_specs(contract), strict=True):
        if check.name in told or spec.key not in context.selected_asset_check_keys:
            continue
        found = _standing(context.instance, spec.key, published)
        if found is not None and (found.passed or not check.blocking):
            last.append(found)
    return last


def _standing(instance: dg.DagsterInstance, key: dg.AssetCheckKey, published: Collection[str] | None) -> AssetCheckEvaluation | None:
    """The newest result of a check, or the newest that a run of `published` found or repeated, marked with the run that found it."""
    history = instance.event_log_storage.get_asset_check_execution_history(
        key, limit=1 if published is None else REMEMBERED_RESULTS, status={Status.SUCCEEDED, Status.FAILED}
    )
    for record in history:
        found = record.evaluation
        if not isinstance(found, AssetCheckEvaluation):
            continue
        since = found.metadata.get(STANDING, dg.MetadataValue.dagster_run(record.run_id))
        if published is None or {record.run_id, since.value} & set(published):
            return AssetCheckEvaluation(
                asset_key=found.asset_key,
                check_name=found.check_name,
                passed=found.passed,
                severity=found.severity,
                description=found.description,
                metadata={**found.metadata, STANDING: since},
                blocking=found.blocking,
            )
    return None


def _named(contract: Contract, outcomes: Iterable[CheckOutcome]) -> list[tuple[str, CheckOutcome]]:
    """Each outcome with its check's name in Dagster."""
    names = {check.name: spec.name for check, spec in zip(contract.checks, asset_check_specs(contract), strict=True)}
    return [(names[outcome.check.name], outcome) for outcome in outcomes if outcome.check.name in names]


def _severity(check: Check) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN


def _sentence(outcome: CheckOutcome) -> str:
    if outcome.error:
        return outcome.error
    limits = " and ".join(f"{limit:g}" for limit in outcome.check.threshold)
    return f"Measured {outcome.measured:g} in {outcome.rows} rows; {outcome.check.operator} {limits} {outcome.check.unit}."


def _metadata(outcome: CheckOutcome) -> Mapping[str, Any]:
    facts: dict[str, Any] = {"sdp/scope": outcome.check.scope, "sdp/measured": float(outcome.measured), "sdp/rows": outcome.rows}
    if outcome.check.dimension:
        facts["sdp/dimension"] = outcome.check.dimension
    if outcome.sample:
        rows = [", ".join(f"{column}={value}" for column, value in row.items()) for row in outcome.sample[:SHOWN_ROWS]]
        facts[SAMPLE] = dg.MetadataValue.text("\n".join(rows))
    return facts

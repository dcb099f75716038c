"""Outcomes of quality checks as Dagster records them: of an audit, yielded by the asset; of a drain, logged while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
from dagster import AssetCheckEvaluation
from dagster._core.definitions.metadata import normalize_metadata

from platform_resources.contracts.model import Check, Contract
from platform_resources.contracts.specs import asset_check_specs
from platform_resources.engines.audit import CheckOutcome
from platform_resources.runs import asset_key_parts

SHOWN_ROWS = 5


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
        facts["sdp/sample"] = dg.MetadataValue.text("\n".join(str(dict(row)) for row in outcome.sample[:SHOWN_ROWS]))
    return facts

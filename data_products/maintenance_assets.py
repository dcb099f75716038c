"""The maintenance of all tables as two Dagster assets, its facts, and the one job that makes them.

`platform/table_health` looks at every table; `platform/table_maintenance` then does what the newest look names, table by table, within
its time. What is done to a table is `platform_resources.maintenance`'s; when the job runs is `sensors.maintenance`'s.
"""

import time
from collections.abc import Sequence
from typing import Any

import dagster as dg

from data_products.derived_assets import told_to_users
from io_managers.iceberg import table_facts
from platform_resources.contracts.model import Contract
from platform_resources.contracts.specs import asset_check_specs, asset_spec
from platform_resources.locks import hold
from platform_resources.maintenance import HEALTH, MAINTENANCE, Fact, Look, Maintenance, maintained_tables
from platform_resources.parts import Parts
from platform_resources.runs import MAINTENANCE_POOL, asset_key_parts, run_lock, transform_op

TOLD = 20  # tables and actions listed in the run's log and metadata; all of them are in the products


class MaintenanceConfig(dg.Config):
    """What a run maintains, and for how long."""

    tables: list[str] = []  # noqa: RUF012 - pydantic copies it
    """Identifiers such as `mediawiki.page_change`; empty: those that the newest look names."""
    seconds: float = 480.0
    """Time after which nothing new is begun."""


def maintenance_assets(contracts: Sequence[Contract], parts: Parts) -> list[dg.AssetsDefinition]:
    """The assets of those contracts that are the platform's facts about its tables."""
    makers = {HEALTH: _health_asset, MAINTENANCE: _maintenance_asset}
    return [makers[contract.key](contract, parts) for contract in contracts if contract.key in makers]


def _health_asset(contract: Contract, parts: Parts) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=transform_op(contract.key),
        specs=[asset_spec(contract, registry=parts.registry, kinds=["iceberg"])],
        check_specs=asset_check_specs(contract),
        pool=MAINTENANCE_POOL,
    )
    def _look(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with told_to_users(), hold(parts.settings.locks_path, run_lock(contract.key), context.run_id):
            work = Maintenance(parts.lakehouse, parts.registry, context.run_id)
            looks = work.look(maintained_tables(parts.registry))
            snapshot_id = work.record_looks(looks)
        needy = [look for look in looks if look.needs]
        for look in needy[:TOLD]:
            context.log.info(f"{look.target.identifier}: " + "; ".join(f"{need.action}, {need.reason}" for need in look.needs))
        for look in looks:
            if look.error is not None:
                context.log.error(f"{look.target.identifier} cannot be looked at: {look.error}")
        return dg.MaterializeResult(
            asset_key=asset_key_parts(contract.key),
            metadata={
                **_facts(contract, parts),
                "sdp/snapshot_id": snapshot_id or 0,
                "sdp/tables": len(looks),
                "sdp/tables_in_need": len(needy),
                "sdp/needs": dg.MetadataValue.md(_needs_page(needy)),
            },
        )

    return _look


def _maintenance_asset(contract: Contract, parts: Parts) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=transform_op(contract.key),
        specs=[asset_spec(contract, registry=parts.registry, deps=[dg.AssetKey(asset_key_parts(HEALTH))], kinds=["iceberg"])],
        check_specs=asset_check_specs(contract),
        pool=MAINTENANCE_POOL,
    )
    def _maintain(context: dg.AssetExecutionContext, config: MaintenanceConfig) -> dg.MaterializeResult:  # type: ignore[type-arg]
        with told_to_users(), hold(parts.settings.locks_path, run_lock(contract.key), context.run_id):
            work = Maintenance(parts.lakehouse, parts.registry, context.run_id, deadline=time.monotonic() + config.seconds)
            facts = list[Fact]()
            for target, orphans in work.chosen(maintained_tables(parts.registry), config.tables):
                for fact in work.maintain(target, orphans=orphans):
                    _tell(context, fact)
                    facts.append(fact)
            snapshot_id = work.record(facts)
        result = {
            **_facts(contract, parts),
            "sdp/snapshot_id": snapshot_id or 0,
            "sdp/actions": len(facts),
            "sdp/facts": dg.MetadataValue.md(_facts_page(facts)),
        }
        failed = [fact for fact in facts if fact.outcome == "failed"]
        if failed:
            context.log_event(dg.AssetMaterialization(asset_key_parts(contract.key), metadata=result))
            raise _failure(failed)
        return dg.MaterializeResult(asset_key=asset_key_parts(contract.key), metadata=result)

    return _maintain


def _facts(contract: Contract, parts: Parts) -> dict[str, Any]:
    table = parts.lakehouse.table(contract.identifier)
    return dict(table_facts(contract, table.location())) if table is not None else {}


def _tell(context: dg.AssetExecutionContext, fact: Fact) -> None:
    said = f"{fact.identifier}: {fact.action}, {fact.outcome} in {fact.seconds:.1f} s, since {fact.reason}"
    if fact.outcome == "failed":
        context.log.error(f"{said}: {fact.error}")
    else:
        context.log.info(said)


def _failure(failed: Sequence[Fact]) -> dg.Failure:
    """One failure for all tables at fault: their facts are published, and the others' maintenance stands."""
    said = "; ".join(f"{fact.identifier} ({fact.action}): {fact.error}" for fact in failed[:TOLD])
    count = "1 table" if len(failed) == 1 else f"{len(failed)} tables"
    return dg.Failure(
        description=f"Maintenance of {count} failed, each is as it was before: {said}",
        metadata={"sdp/code": "maintenance-failed", "sdp/tables": [fact.identifier for fact in failed]},
        allow_retries=False,
    )


def _needs_page(looks: Sequence[Look]) -> str:
    rows = [f"| {look.target.identifier} | {need.action} | {need.reason} |" for look in looks for need in look.needs]
    return "\n".join(["| table | action | why |", "|---|---|---|", *rows[:TOLD]]) if rows else "No table needs anything."


def _facts_page(facts: Sequence[Fact]) -> str:
    head = ["| table | action | outcome | files | took | why |", "|---|---|---|---|---|---|"]
    rows = [
        f"| {one.identifier} | {one.action} | {one.outcome} | {one.files_before:,} to {one.files_after:,} | {one.seconds:.1f} s | "
        f"{one.reason} |"
        for one in facts[:TOLD]
    ]
    return "\n".join([*head, *rows]) if rows else "Nothing to do."

"""A derived product as a Dagster asset: stage, audit, then publish or refuse (law 5). How rows are computed is the engines' business."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg

from data_products.check_results import check_results, standing_evaluations
from io_managers.iceberg import COLUMN_LINEAGE, audit_staged, blocking_failures, failure_of, publish_staged, refusal, stands_audited
from io_managers.spark import SPARK
from platform_resources.contracts.model import Contract
from platform_resources.contracts.specs import asset_check_specs, asset_spec
from platform_resources.engines.derivation import Derivation, Derived
from platform_resources.engines.spark import Spark
from platform_resources.engines.transform import Transform
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.stamp import RUN_ID, ancestors, summary_of
from platform_resources.locks import hold
from platform_resources.parts import Parts
from platform_resources.runs import asset_key_parts, code_version, refused_branch, run_lock, table_pool, transform_op

IO_MANAGER = "io_manager"


class TransformConfig(dg.Config):
    """What a run computes when it is not simply what is missing."""

    partition: str | None = None
    """Recompute this partition, e.g. `2026-01-01`; moves no position."""
    recompute: bool = False
    """Compute everything anew from the whole inputs."""
    engine: str | None = None
    """Run this computation of a query on `duckdb` or `spark`; default: what the contract says."""


@dataclass(frozen=True)
class TransformedProduct:
    """A contract with its transform, over the parts of this instance."""

    contract: Contract
    transform: Transform
    parts: Parts

    @property
    def inputs(self) -> Sequence[str]:
        """Keys of the products it reads."""
        return self.transform.inputs

    @property
    def code_version(self) -> str:
        """Changes when the transform or what the contract says about the table changes."""
        return code_version(self.contract.fingerprint, self.transform.code_version)


@dataclass(frozen=True)
class DerivedProduct(TransformedProduct):
    """A product whose transform gives its table's rows."""

    def derivation_on(self, spark: Spark) -> Derivation:
        """The engine's view of the product, with the Spark that a run is given."""
        return Derivation(
            self.contract,
            self.transform,
            lakehouse=self.parts.lakehouse,
            registry=self.parts.registry,
            settings=self.parts.settings,
            spark=spark,
        )

    @cached_property
    def derivation(self) -> Derivation:
        """The engine's view of the product, made when it is first needed."""
        return Derivation(
            self.contract, self.transform, lakehouse=self.parts.lakehouse, registry=self.parts.registry, settings=self.parts.settings
        )

    def is_behind(self) -> bool:
        """Whether an input has a snapshot that the product's own position does not cover."""
        return self.derivation.is_behind()


def derived_asset(product: DerivedProduct) -> dg.AssetsDefinition:
    """The asset of a derived product, with its checks, lineage and pool."""
    contract, parts = product.contract, product.parts
    output_name = transform_op(contract.key)

    @dg.multi_asset(
        name=transform_op(contract.key),
        specs=[_spec(product)],
        check_specs=asset_check_specs(contract),
        pool=table_pool(contract.key),
        required_resource_keys={SPARK},
        can_subset=True,  # a run that changes no row has nothing to check, and Dagster demands every result unless outputs are optional
    )
    def _asset(context: dg.AssetExecutionContext, config: TransformConfig) -> Iterator[Any]:
        with told_to_users(), hold(parts.settings.locks_path, run_lock(contract.key), context.run_id):
            derived = product.derivation_on(context.resources.spark.engine).stage(
                run_id=context.run_id, partition=config.partition, recompute=config.recompute, engine=config.engine
            )
            context.log.info(f"{contract.key}: {derived.plan}, since {derived.reason}")
            handed_over = False
            try:
                yield from _audited(context, product, derived)
                if context.selected_asset_keys:
                    handed_over = True  # from here who publishes commits or cleans up
                    if config.partition is not None:
                        _publish_partition(context, product, derived, config)
                    else:
                        yield dg.Output(derived.staged, output_name=output_name, metadata=_metadata(derived, config))
            except dg.Failure:
                handed_over = True  # refused, and kept on its branch
                raise
            finally:
                if not handed_over and derived.staged is not None:
                    derived.staged.discard()  # a run of the checks alone, a cancelled run, a fault

    return _asset


def _audited(context: dg.AssetExecutionContext, product: DerivedProduct, derived: Derived) -> Iterator[dg.AssetCheckResult]:
    """The results of the checks, all of them before the refusal: Dagster records them, and no materialisation."""
    if derived.staged is None or stands_audited(derived.staged):
        for evaluation in standing_evaluations(context, product.contract, published=_published_runs(product)):
            context.log_event(evaluation)
        return
    outcomes = audit_staged(product.parts, product.contract, derived.staged)
    yield from check_results(product.contract, outcomes)
    failed = blocking_failures(outcomes)
    if failed:
        derived.staged.refuse(refused_branch(context.run_id))
        raise refusal(product.contract, context.run_id, failed)


def _published_runs(product: DerivedProduct) -> frozenset[str]:
    """The runs whose commits are the product's history; a refused write is on no ancestor of its head."""
    table = product.parts.lakehouse.table(product.contract.identifier)
    return frozenset(summary_of(snapshot).get(RUN_ID, "") for snapshot in ancestors(table)) if table is not None else frozenset()


def _publish_partition(context: dg.AssetExecutionContext, product: DerivedProduct, derived: Derived, config: TransformConfig) -> None:
    """Publish a partition that was asked for and tell it as an observation: Dagster takes every materialisation for freshness, and a
    recomputed old day makes nothing fresh (law 6).
    """
    facts = publish_staged(product.parts, product.contract, derived.staged, context.run_id, audited=True)
    context.log_event(
        dg.AssetObservation(
            asset_key=asset_key_parts(product.contract.key),
            description=f"The partition {config.partition} was recomputed; the position has not moved.",
            metadata={**facts, **_metadata(derived, config)},
        )
    )


def _metadata(derived: Derived, config: TransformConfig) -> dict[str, Any]:
    facts: dict[str, Any] = {"sdp/plan": derived.plan, "sdp/reason": derived.reason}
    if derived.watermark is not None:
        facts["sdp/watermark"] = dg.MetadataValue.timestamp(derived.watermark)
    if config.partition is not None:
        facts["sdp/partition"] = config.partition
    if derived.position:
        facts["sdp/position"] = dg.MetadataValue.json(dict(derived.position))
    return facts


def _spec(product: DerivedProduct) -> dg.AssetSpec:
    transform = product.transform
    spec = asset_spec(
        product.contract,
        registry=product.parts.registry,
        deps=[dg.AssetKey(asset_key_parts(key)) for key in transform.inputs],
        kinds=["iceberg", *_kinds(transform, product.contract.engine)],
        code_version=product.code_version,
    )
    lineage = column_lineage(transform)
    return spec.merge_attributes(metadata={COLUMN_LINEAGE: lineage} if lineage is not None else {}).with_io_manager_key(IO_MANAGER)


def _kinds(transform: Transform, engine: str) -> list[str]:
    """The language and the engine, as the UI's icons."""
    if transform.kind == "sql":
        return ["sql", engine]
    engines = {engine for _, engine in transform.parameters.values()}
    return ["python", *sorted("arrow" if engine.startswith("arrow") else engine for engine in engines)][:4]


def column_lineage(transform: Transform) -> dg.TableColumnLineage | None:
    """Which input columns each output column is made of; None when the transform declares nothing."""
    deps = {
        column: [dg.TableColumnDep(asset_key=dg.AssetKey(asset_key_parts(source.product)), column_name=source.column) for source in sources]
        for column, sources in transform.lineage.items()
        if sources
    }
    return dg.TableColumnLineage(deps_by_column=deps) if deps else None


def refusing_asset(contract: Contract, fault: PlatformError, parts: Parts, *, inputs: Sequence[str] = ()) -> dg.AssetsDefinition:
    """The asset of a product that reads another domain's broken or changed product: it loads, and its runs refuse with the sentence.

    So one team's fault never takes another team's location down (DESIGN 3).
    """
    spec = asset_spec(
        contract,
        registry=parts.registry,
        deps=[dg.AssetKey(asset_key_parts(key)) for key in inputs],
        kinds=["iceberg"],
    )

    @dg.multi_asset(
        name=transform_op(contract.key),
        specs=[spec.merge_attributes(metadata={"sdp/fault": str(fault)})],
        check_specs=asset_check_specs(contract),
        pool=table_pool(contract.key),
    )
    def _asset(config: TransformConfig) -> Iterator[Any]:
        yield from ()
        raise failure_of(fault)

    return _asset


@contextmanager
def told_to_users() -> Iterator[None]:
    """A user's fault fails the run with its sentence instead of a stack trace."""
    try:
        yield
    except PlatformError as error:
        raise failure_of(error) from None

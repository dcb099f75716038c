"""A domain team's contracts and transforms become one Dagster code location. The only place where all layers meet.

A fault in the location's own files refuses the location with one sentence for each; a fault in another domain's contract leaves it
loaded, and just the products that read it refuse to run. What an asset does when it runs stands in `stream_assets` and `derived_assets`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from data_products.derived_assets import IO_MANAGER, DerivedProduct, TransformedProduct, derived_asset, refusing_asset
from data_products.landed_assets import landed_assets
from data_products.maintenance_assets import maintenance_assets
from data_products.published_assets import published_assets
from data_products.stream_assets import stream_assets
from io_managers.iceberg import IcebergIOManager
from io_managers.spark import SPARK, SparkResource
from platform_resources.config import Settings, load_settings
from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.contracts.specs import asset_spec
from platform_resources.engines.loading import INPUT_FAULTS, check_transform, read_transform
from platform_resources.errors import PlatformError, Problem
from platform_resources.parts import Parts
from platform_resources.runs import asset_key_parts
from platform_resources.workspace import FILE_NAME, read_locations
from sensors.alerts import alert_sensor
from sensors.automation import automation_sensor
from sensors.landing import landing_sensor
from sensors.maintenance import maintenance_job, maintenance_schedule
from sensors.publishing import publishing_sensor
from sensors.streams import stream_sensor

# Faults of a transform that another team can cause by changing its contract: besides those of reading the input, an input's column
# of another type, or one more or less under `select *`. The author may have caused them too; then one product refuses instead of all.
CAUSED_BY_INPUTS = INPUT_FAULTS | {
    *("sql-type-mismatch", "sql-missing-column", "sql-extra-column", "sql-invalid"),
    *("export-column-missing", "export-column-unknown"),
}


def domain_definitions(package: str, *, settings: Settings | None = None, overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The code location of the domain whose package is `package` (its last part is the domain's name).

    Reads the contracts of the project (`SDP_PROJECT`) and nothing else: no catalog, no event log, no network.

    Args:
        package: e.g. `data_products.activity`; `__package__` in the domain's definitions.py.
        settings: instead of those of the environment.
        overrides: parts to use instead of the configured ones: `registry`, `lakehouse`, `log`, `io_manager`,
            `spark`.

    Raises:
        PlatformError: `location-refused` with every problem of the domain's own files, `domain-unknown`, `location-twice`.
    """
    given = dict(overrides or {})
    io_manager, spark = given.pop("io_manager", None), given.pop("spark", None)
    domain = package.rpartition(".")[2]
    parts = Parts((settings or load_settings()).model_copy(update={"domain": domain}), **given)
    _refuse_second_location(domain, parts.settings)
    location = _read_location(domain, parts)
    streams = [contract for contract in location.others if contract.is_stream]
    own = [contract for contract in location.others if contract.source is not None and contract.source.kind == "platform"]
    landed = [contract for contract in location.others if contract.lands]
    others = [contract for contract in location.others if contract not in streams and contract not in own and contract not in landed]
    jobs = [maintenance_job(own)] if own else []
    return dg.Definitions(
        assets=[
            *stream_assets(streams, parts),
            *landed_assets(landed, parts),
            *maintenance_assets(own, parts),
            *(derived_asset(product) for product in location.derived),
            *published_assets(location.published),
            *(refusing_asset(contract, fault, parts) for contract, fault in location.faulty),
            *(asset_spec(contract, registry=parts.registry, kinds=["iceberg"]) for contract in others),
            *_foreign_inputs(domain, [*location.derived, *location.published], parts.registry),
        ],
        jobs=jobs,
        schedules=[maintenance_schedule(job, own, parts) for job in jobs],
        sensors=[
            *([stream_sensor(domain, streams, parts)] if streams else []),
            *([landing_sensor(domain, landed, parts)] if landed else []),
            *([automation_sensor(domain, location.derived, parts)] if location.derived else []),
            *([publishing_sensor(domain, location.published, parts)] if location.published else []),
            alert_sensor(domain, parts.registry),
        ],
        resources={IO_MANAGER: io_manager or IcebergIOManager(parts), SPARK: spark or SparkResource(parts.settings)},
        # A run takes one step (a set of streams, or one product), so a process per step would only cost its start, some 4 s.
        executor=dg.in_process_executor,
    )


@dataclass
class _Location:
    """The contracts of one domain, by what becomes of them."""

    derived: list[DerivedProduct] = field(default_factory=list)
    published: list[TransformedProduct] = field(default_factory=list)
    faulty: list[tuple[Contract, PlatformError]] = field(default_factory=list)
    others: list[Contract] = field(default_factory=list)


def _read_location(domain: str, parts: Parts) -> _Location:
    registry = parts.registry
    problems = _errors(registry.problems_of(domain))
    if domain not in registry.domains and not problems:
        raise PlatformError(
            "domain-unknown",
            f"The project {registry.project} has no domain {domain}.",
            f"Create data_products/{domain}/domain.yaml, or run `sdp new domain {domain}`.",
        )
    location = _Location()
    for contract in registry.contracts.values():
        if contract.domain == domain:
            problems += _place(contract, parts, location)
    if problems:
        raise _refusal(domain, problems)
    return location


def _place(contract: Contract, parts: Parts, location: _Location) -> list[Problem]:
    """Put the contract where it belongs; the problems of its own transform, if that is at fault."""
    registry = parts.registry
    if registry.transform_path(contract.key) is None:
        location.others.append(contract)
        return []
    transform = None
    try:
        transform = read_transform(contract, registry)
        found = _errors(check_transform(contract, registry))
    except PlatformError as error:
        found = [error.problem()]
    if transform is not None and not found and contract.publication is not None:
        location.published.append(TransformedProduct(contract, transform, parts))
        return []
    if transform is not None and not found:
        location.derived.append(DerivedProduct(contract, transform, parts))
        return []
    if found and all(problem.code in CAUSED_BY_INPUTS for problem in found) and _foreign_names(contract, registry):
        location.faulty.append((contract, _with_cause(contract, found[0], registry)))
        return []
    return found


def _foreign_names(contract: Contract, registry: Registry) -> list[str]:
    """Products of other domains that the transform's text names, whether or not they exist; it may be too broken to be parsed."""
    path = registry.transform_path(contract.key)
    text = path.read_text(encoding="utf-8", errors="replace") if path is not None else ""
    folders = [path.name for path in (registry.project / "data_products").iterdir() if path.is_dir() and path.name != contract.domain]
    named = re.findall(rf'\b({"|".join(map(re.escape, folders))})"?[./]"?(\w+)', text) if folders else []
    return sorted({f"{domain}/{name}" for domain, name in named})


def _with_cause(contract: Contract, problem: Problem, registry: Registry) -> PlatformError:
    """The problem of the transform, and behind it what is wrong with the input, if its contract is broken."""
    causes = [cause for key in _foreign_names(contract, registry) for cause in _errors(registry.problems_of(key))]
    said = f"{problem.message} The cause: {causes[0]}" if causes else problem.message
    return PlatformError(problem.code, said, "" if causes else problem.remedy, file=problem.file or None, line=problem.line)


def _foreign_inputs(domain: str, products: Sequence[TransformedProduct], registry: Registry) -> list[dg.AssetSpec]:
    """Inputs from other locations as loadable assets: a bare key would fail at load where an input is to be loaded through it."""
    keys = sorted({key for product in products for key in product.inputs if key.partition("/")[0] != domain})
    return [dg.AssetSpec(asset_key_parts(key), group_name=registry.get(key).domain).with_io_manager_key(IO_MANAGER) for key in keys]


def _refuse_second_location(domain: str, settings: Settings) -> None:
    """One domain, one location: Dagster only warns of a key that two locations make, and fails when the first run is launched."""
    try:
        locations = [location for location in read_locations(settings.project) if location.domain == domain]
    except PlatformError:
        return  # the fault of a file that all locations share is told by `sdp check` and the webserver; it refuses nobody here
    if len(locations) > 1:
        names = " and ".join(location.name for location in locations)
        raise PlatformError(
            "location-twice",
            f"The locations {names} both load the domain {domain}, so each of its products would have two owners.",
            "Remove one of the two entries.",
            file=settings.project / FILE_NAME,
            line=locations[1].line,
        )


def _errors(problems: Sequence[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity == "error"]


def _refusal(domain: str, problems: Sequence[Problem]) -> PlatformError:
    """All problems of a location as one error, a line each."""
    unique = list(dict.fromkeys(sorted(problems)))
    count = "1 problem" if len(unique) == 1 else f"{len(unique)} problems"
    lines = "".join(f"\n  {problem} [{problem.code}]" for problem in unique)
    return PlatformError(
        "location-refused",
        f"The location {domain} is refused for {count} in its own files:{lines}",
        "\nMend them; `sdp check` shows when none is left.",
    )

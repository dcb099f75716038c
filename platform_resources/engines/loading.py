"""From a product's key to its transform, whichever form it is written in, and everything that is wrong with it."""

from __future__ import annotations

from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.engines.python import read_python, validate_python
from platform_resources.engines.sql import read_sql, shown_path, validate
from platform_resources.engines.transform import Transform
from platform_resources.errors import PlatformError, Problem

INPUT_FAULTS = frozenset(
    {
        "sql-unknown-product",
        "sql-input-broken",
        "sql-unknown-column",
        "python-unknown-product",
        "python-input-broken",
        "python-unknown-source",
        "reader-refused",
    }
)
"""Codes of problems that may be the fault of an input's contract: a location with one of these loads, and only that product refuses."""


def read_transform(contract: Contract, registry: Registry) -> Transform | None:
    """The transform beside a contract, None for a product that has none (a stream, a file drop).

    Raises:
        PlatformError: as `read_sql` and `read_python` say, when it is wrong.
    """
    path = registry.transform_path(contract.key)
    if path is None:
        return None
    return read_sql(path, contract, registry) if path.suffix == ".sql" else read_python(path, contract, registry)


def check_transform(contract: Contract, registry: Registry) -> list[Problem]:
    """Every problem of the transform beside a contract, for `sdp check` and for loading a location; [] for a product without one."""
    try:
        transform = read_transform(contract, registry)
    except PlatformError as error:
        return [error.problem()]
    if transform is None:
        return []
    if problems := [*_unfit_slow_inputs(transform, contract, registry), *_unfit_optional_inputs(transform, contract, registry)]:
        return problems
    if contract.publication is not None:
        from platform_resources.engines.export_query import check_export

        return check_export(transform, contract, registry)
    if transform.kind == "sql":
        problems = validate(transform, contract, registry)
        if contract.engine == "spark" and all(problem.severity != "error" for problem in problems):
            problems += unfit_for_spark(transform, registry)
        return problems
    return [*validate_python(transform, contract, registry), *(unfit_for_spark(transform, registry) if transform.needs_spark else [])]


def _unfit_slow_inputs(transform: Transform, contract: Contract, registry: Registry) -> list[Problem]:
    """What is no input; a stream, since one that holds the watermark back is truly behind: idle ones tell so by heartbeats (law 6); or
    all inputs, since nothing would be left to tell how new the product is.
    """
    slow = set(contract.slow_inputs)
    strange = sorted(slow - set(transform.inputs))
    streams = sorted(key for key in slow.intersection(transform.inputs) if registry.get(key).is_stream)
    if strange:
        said = f"which are no inputs of it: {', '.join(strange)}"
    elif streams:
        said = f"which are streams, whose age always counts: {', '.join(streams)}"
    elif slow and slow == set(transform.inputs):
        said = "which are all it has, so nothing tells how new its rows are"
    else:
        return []
    return [
        Problem(
            shown_path(contract.path, registry),
            1,
            "contract-slow-inputs",
            f"The slowInputs of {contract.key} name products {said}.",
            f"Name some of {', '.join(transform.inputs)}, as domain/product, or remove the custom property.",
        )
    ]


def _unfit_optional_inputs(transform: Transform, contract: Contract, registry: Registry) -> list[Problem]:
    """What is no input, or all inputs: nothing would be left whose first rows start the product."""
    optional = set(contract.optional_inputs)
    strange = sorted(optional - set(transform.inputs))
    if not strange and not (optional and optional == set(transform.inputs)):
        return []
    said = f"which are no inputs of it: {', '.join(strange)}" if strange else "which are all it has, so none would start it"
    return [
        Problem(
            shown_path(contract.path, registry),
            1,
            "contract-optional-inputs",
            f"The optionalInputs of {contract.key} name products {said}.",
            f"Name some of {', '.join(transform.inputs)}, as domain/product, or remove the custom property.",
        )
    ]


def unfit_for_spark(transform: Transform, registry: Registry) -> list[Problem]:
    """What keeps a sound transform from running on Spark; [] for one that gives the same rows there. No Spark is needed to tell.

    Codes: `sql-not-portable`, `spark-type`.
    """
    from platform_resources.engines.spark import require_readable
    from platform_resources.engines.transpiling import portability_problems

    schemas = {registry.get(key).identifier: table_definition(registry.get(key)).schema for key in transform.inputs}
    where = shown_path(transform.path, registry)
    for identifier, schema in schemas.items():
        try:
            require_readable(schema, identifier)
        except PlatformError as error:
            return [Problem(where, 1, error.code, error.message, error.remedy)]
    return portability_problems(transform.text or "", schemas, where) if transform.kind == "sql" else []

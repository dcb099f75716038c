"""The sensor that all others here are: at each tick it proposes runs, and tells of each product that has to wait in one sentence.

What is proposed is the business of the module that has the proposal; nothing here knows streams, transforms, sources or dumps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import dagster as dg

from platform_resources.contracts.model import Contract
from sensors.liveness import keys_of

Proposal = tuple[list[dg.RunRequest], list[str]]


class Transformed(Protocol):
    """A product with a transform, as sensors see it."""

    @property
    def contract(self) -> Contract:
        """Its contract."""

    @property
    def inputs(self) -> Sequence[str]:
        """Keys of the products it reads."""

    @property
    def code_version(self) -> str:
        """Changes with its transform and its contract."""


def proposing_sensor(
    domain: str,
    kind: str,
    keys: Iterable[str],
    propose: Callable[[dg.DagsterInstance], Proposal],
    *,
    description: str,
    idle: str,
    every: int,
) -> dg.SensorDefinition:
    """`<domain>_<kind>`, running by default, over the products of these keys.

    `propose` gives the runs to start, and why others have to wait; `idle` is what a tick says when neither is there; ticks are `every`
    so many seconds.
    """

    @dg.sensor(
        name=f"{domain}_{kind}",
        # Not `target`: that makes one job of all, which Dagster refuses where the partitions of products differ.
        asset_selection=dg.AssetSelection.assets(*keys_of(keys)),
        minimum_interval_seconds=every,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=description,
        tags={"sdp/domain": domain},
    )
    def _tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        requests, reasons = propose(context.instance)
        for reason in reasons if requests else ():  # without a run they are the reason that the tick shows
            context.log.info(reason)
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else " ".join(reasons) or idle)

    return _tick

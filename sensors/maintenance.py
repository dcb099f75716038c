"""When maintenance runs: every ten minutes, one run at a time, over the tables whose facts name it.

The run looks first, which is cheap, and ends when no table needs anything. It has a pool and a queue of its own, so that no drain and no
transform ever waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from platform_resources.contracts.model import Contract
from platform_resources.parts import Parts
from platform_resources.runs import DOMAIN_TAG, KIND_TAG, MAINTAIN
from sensors.liveness import active_work, keys_of

CRON = "*/10 * * * *"
JOB = "maintenance"


def maintenance_job(contracts: Sequence[Contract]) -> dg.JobDefinition:
    """The job that looks at all tables and maintains those in need; its configuration may name the tables."""
    job: dg.JobDefinition = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.assets(*keys_of(contract.key for contract in contracts)),
        description="Looks at every table, then compacts, expires and ages those whose facts name it.",
        tags={KIND_TAG: MAINTAIN, DOMAIN_TAG: contracts[0].domain},
    )  # type: ignore[assignment]
    return job


def maintenance_schedule(job: dg.JobDefinition, contracts: Sequence[Contract], parts: Parts) -> dg.ScheduleDefinition:
    """The schedule, running by default; it skips while a run is queued or at work."""
    keys = [contract.key for contract in contracts]

    @dg.schedule(
        job=job,
        cron_schedule=CRON,
        name=JOB,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Maintenance of the tables whose facts name it.",
    )
    def _maintenance(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        busy = active_work(context.instance, keys, parts.settings)
        return dg.SkipReason(f"The run {busy[0].run_id} is not over.") if busy else dg.RunRequest()

    return _maintenance

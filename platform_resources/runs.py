"""How the work on a product is named, wherever it is started: run tags, code versions, branches, locks, ops, pools, run configuration.

Sensors, the command line, the assets and the drains meet only through these names. Plain strings and dictionaries; Dagster is not
imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

KIND_TAG = "sdp/kind"
PRODUCTS_TAG = "sdp/products"
DOMAIN_TAG = "sdp/domain"
CODE_TAG = "sdp/code-version"
FAILED_TAGS = "sdp-failed/"  # begins the name of each `failed_tag`
FOREGROUND_TAG = "sdp/foreground"  # runs of `sdp ingest` and `sdp run`; the value is the process
REPORT = "sdp/report"  # metadata of the observation that ends a drain: its totals
SAMPLE = "sdp/sample"  # metadata of a check's result: some of the rows that break it, a line each, personal data masked
DRAIN, LAND, TRANSFORM, MAINTAIN = "drain", "land", "transform", "maintain"
MAINTENANCE_POOL = "maintenance"  # its own, so that maintenance never stands in a transform's way
REFUSED = "refused/"  # begins the name of each branch that keeps a refused write


def refused_branch(run_id: str) -> str:
    """The branch on which what this run was refused is kept for its owner."""
    return REFUSED + run_id


def look_at(identifier: str, branch: str) -> str:
    """The line to paste that shows what is kept on a branch of a table."""
    return f'sdp query --branch {branch} "select * from {identifier}"'  # noqa: S608 - a text to paste


def code_version(fingerprint: str, transform: str | None = None) -> str:
    """What a product's rows are made by, as stamps, tags and asset specs say it: 16 digits of the contract's fingerprint, behind 16 of
    the hash of its transform where it has one.
    """
    return f"{transform[:16]}-{fingerprint[:16]}" if transform else fingerprint[:16]


def drain_tag(key: str) -> str:
    """The tag, of value "1", of each run that takes in the stream or landed product `key`; Dagster filters by equality."""
    return f"sdp-drain/{_dotted(key)}"


def transform_tag(key: str) -> str:
    """The tag, of value "1", of each run that computes the derived product `key`."""
    return f"sdp-transform/{_dotted(key)}"


def failed_tag(key: str) -> str:
    """Set by a drain run on itself for each product it could not go on with; the value is the fingerprint of the contract at fault."""
    return f"{FAILED_TAGS}{_dotted(key)}"


def _dotted(key: str) -> str:
    """A product's key as part of a tag's name: Dagster wants at most one slash there, and warns at each run otherwise."""
    return key.replace("/", ".")


def drain_tags(keys: Sequence[str]) -> dict[str, str]:
    """Tags of a run that drains these stream products of one domain."""
    return {KIND_TAG: DRAIN, **_common(keys), **{drain_tag(key): "1" for key in keys}}


def land_tags(key: str) -> dict[str, str]:
    """Tags of a run that lands one product."""
    return {KIND_TAG: LAND, **_common([key]), drain_tag(key): "1"}


def transform_tags(key: str, *, code_version: str | None = None) -> dict[str, str]:
    """Tags of a run that computes one derived product."""
    code = {CODE_TAG: code_version} if code_version else {}
    return {KIND_TAG: TRANSFORM, **_common([key]), transform_tag(key): "1", **code}


def _common(keys: Sequence[str]) -> dict[str, str]:
    return {PRODUCTS_TAG: ",".join(keys), DOMAIN_TAG: keys[0].partition("/")[0]}


def drain_lock(key: str) -> str:
    """The lock that the drain of a stream product, or the landing of one, holds."""
    return f"drain:{key}"


def run_lock(key: str) -> str:
    """The lock that the computation of a derived product holds."""
    return f"run:{key}"


def maintain_lock(identifier: str) -> str:
    """The lock that maintenance of a table holds."""
    return f"maintain:{identifier}"


def drain_op(domain: str, loud: str | None = None) -> str:
    """Op of a domain's quiet streams, or of the loud stream product `loud` (its full key). Also the name of its pool."""
    return f"drain_{loud.replace('/', '_')}" if loud else f"drain_{domain}"


def transform_op(key: str) -> str:
    """Op of a derived or landed product, as Dagster names the op of an asset."""
    return key.replace("/", "__")


def table_pool(key: str) -> str:
    """Pool of a derived or landed product: one writer per table."""
    return f"table_{key.replace('/', '_')}"


def drain_config(
    op: str, *, until: str = "idle", seconds: float | None = None, skip_checks: Iterable[str] = (), accept_loss: bool = False
) -> dict[str, Any]:
    """Run configuration of a drain: `until` is `idle` (bounded and ending when nothing comes), `end` (the log end seen at start) or
    `stopped` (for ever); `seconds` bounds an `idle` one; `skip_checks` are names of aggregate checks not to stop at;
    `accept_loss` goes on behind events that the log's retention deleted unread.
    """
    config: dict[str, Any] = {"until": until, "skip_checks": sorted(skip_checks)}
    config |= {"seconds": seconds} if seconds is not None else {}
    config |= {"accept_loss": True} if accept_loss else {}
    return {"ops": {op: {"config": config}}}


def land_config(
    key: str, *, again: bool = False, aside: bool = False, retry: bool = False, skip_checks: Iterable[str] = ()
) -> dict[str, Any]:
    """Run configuration of a landing: `again` lands the run's slices also when they have landed, `aside` what has records in the
    quarantine; `retry` tries refused deliveries before their rest is over; `skip_checks` are names of checks not to stop at.
    """
    config = {"again": again, "aside": aside, "retry": retry, "skip_checks": sorted(skip_checks)}
    return {"ops": {transform_op(key): {"config": config}}}


def transform_config(key: str, *, partition: str | None = None, recompute: bool = False, engine: str | None = None) -> dict[str, Any]:
    """Run configuration of a derived product's computation."""
    config: dict[str, Any] = {"recompute": recompute, **({"partition": partition} if partition is not None else {})}
    config |= {"engine": engine} if engine is not None else {}
    return {"ops": {transform_op(key): {"config": config}}}


def publish_config(key: str, *, anew: bool = False) -> dict[str, Any]:
    """Run configuration of a publication: `anew` begins from the inputs as they are, also where an earlier run left part of a slice."""
    return {"ops": {transform_op(key): {"config": {"anew": anew}}}}


def asset_key_parts(key: str) -> list[str]:
    """`domain/product` as the path of an asset key."""
    return key.split("/")

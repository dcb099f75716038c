"""The project of the lakehouse benchmarks: one domain, and a contract of the same edit events for each way to partition them."""

from __future__ import annotations

from pathlib import Path

from platform_resources.contracts.registry import Registry

DOMAIN = """\
name: bench
title: Benchmarks
description: Nobody's.
owners: [team:bench]
"""
CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: bench.{product}
name: {product}
version: 1.0.0
status: active
description: {{purpose: Edit events to measure with., usage: None., limitations: Not real.}}
schema:
  - name: {product}
    description: One row per edit.
    customProperties:
      - {{property: incremental, value: append}}
    properties:
      - name: id
        logicalType: integer
        required: true
        primaryKey: true
        primaryKeyPosition: 1
        description: Number of the edit.
        quality: [{{name: ids_are_there, metric: nullValues, mustBe: 0}}]
{bucket}\
      - name: seen
        logicalType: timestamp
        description: When it was made.
{day}\
      - {{name: wiki, logicalType: string, description: Database name of the wiki.}}
      - {{name: title, logicalType: string, description: Title of the page.}}
      - {{name: delta, logicalType: integer, physicalType: int, description: Bytes added.}}
      - {{name: is_bot, logicalType: boolean, description: Made by a bot.}}
      - {{name: comment, logicalType: string, description: What the editor says of it.}}
"""
_PART = """\
        partitioned: true
        partitionKeyPosition: {position}
        customProperties: [{{property: partitionTransform, value: "{transform}"}}]
"""
PLAIN, BY_DAY, BY_DAY_AND_BUCKET = "edits", "edits_by_day", "edits_by_day_and_bucket"
BUCKETS = 16


def write_project(project: Path) -> Registry:
    """Write the project's files unless they are there, and read its contracts."""
    folder = project / "data_products" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (project / "workspace.yaml").write_text("load_from: []\n")
    (folder / "domain.yaml").write_text(DOMAIN)
    day, bucket = _PART.format(position=1, transform="day"), _PART.format(position=2, transform=f"bucket[{BUCKETS}]")
    for product, parts in ((PLAIN, ("", "")), (BY_DAY, (day, "")), (BY_DAY_AND_BUCKET, (day, bucket))):
        (folder / f"{product}.py").write_text('"""Rows come from the benchmark."""\n')
        (folder / f"{product}.yaml").write_text(CONTRACT.format(product=product, day=parts[0], bucket=parts[1]))
    registry = Registry.load(project)
    faults = [str(problem) for problem in registry.problems if problem.severity == "error"]
    if faults:
        raise RuntimeError("\n".join(faults))
    return registry

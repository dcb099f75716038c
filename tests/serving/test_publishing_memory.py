"""The memory of publishing does not grow with the dump, nor with a page of many long revisions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from platform_resources.config import SOURCE_ROOT
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.staging import PartitionScope, stage_overwrite
from platform_resources.lakehouse.stamp import Stamp
from tests.serving.wikis import PATH, Archive, revision

pytestmark = pytest.mark.storm
LIMIT = 600  # MB resident, all of the process: 210 are the libraries, 460 to 530 were measured
PUBLISH = """\
import sys
from pathlib import Path
from bench.harness import resident_mb
from tests.serving.wikis import Archive
published = Archive(Path(sys.argv[1])).publish()
print(sum(one.xml_bytes for one in published.files), resident_mb("VmHWM"))
"""


def fill(archive: Archive, revisions: int, length: int, pages: int) -> None:
    """So many revisions of so many characters, over so many pages."""
    definition = table_definition(Registry.load(archive.root).get("archive/revision"))
    schema = arrow_schema_of(definition.schema)
    text = "".join(f"word{number} " for number in range(length // 6))[:length]
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def batches() -> Iterator[pa.RecordBatch]:
        step = max(1, 2**22 // length)
        for at in range(0, revisions, step):
            rows = [
                revision("testwiki", n * pages // revisions + 1, n + 1, f"{text} {n}", revision_dt=start + timedelta(seconds=n), day=1)
                for n in range(at, min(at + step, revisions))
            ]
            yield pa.RecordBatch.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)

    data = pa.RecordBatchReader.from_batches(schema, batches())
    stage_overwrite(archive.lakehouse, definition, data, Stamp(run_id="fill"), partitions=PartitionScope.table()).commit()


@pytest.mark.parametrize(("revisions", "length", "pages"), [(60_000, 8_000, 3_000), (6_000, 80_000, 1)])
def test_half_a_gigabyte_takes_less_than_600_megabytes(tmp_path: Path, revisions: int, length: int, pages: int) -> None:
    archive = Archive(tmp_path).define(path=PATH.replace("xml.bz2", "xml"))
    fill(archive, revisions, length, pages)
    done = subprocess.run(
        [sys.executable, "-c", PUBLISH, str(tmp_path)], cwd=SOURCE_ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written, peak = map(float, done.stdout.split())
    assert written > revisions * length
    assert peak < LIMIT

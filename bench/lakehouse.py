"""The lakehouse against its limits and its peers: writing, reading, merging, committing, maintaining.

`python -m bench.lakehouse [--json] [--only NAME,...] [--rows N] [--store folder|swift|rest] [--repetitions N] [--no-peers]
[--folder PATH]`. One object per line: for each name one whose `name` is the case's, without `peer`, and one with `peer` for everybody
else. The cases are in `bench.cases`; what each measures is said there.
"""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import sys
import tempfile
from pathlib import Path

import bench.cases
from bench.cases import Case, Options, end_store
from bench.harness import arguments, report
from platform_resources.errors import PlatformError


def cases() -> dict[str, Case]:
    """Every case by its name."""
    found: dict[str, Case] = {}
    for module in sorted(pkgutil.iter_modules(bench.cases.__path__), key=lambda one: one.name != "writing"):
        found.update(getattr(importlib.import_module(f"bench.cases.{module.name}"), "CASES", {}))
    return found


def chosen_cases(only: str | None) -> dict[str, Case]:
    """The cases that `--only` names, all without it.

    Raises:
        PlatformError: `bench-case-unknown`.
    """
    known = cases()
    wanted = [name.strip() for name in only.split(",") if name.strip()] if only else list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise PlatformError(
            "bench-case-unknown", f"There is no benchmark named {', '.join(unknown)}.", f"There are: {', '.join(sorted(known))}."
        )
    return {name: known[name] for name in wanted}


def main() -> None:
    """Measure and print, case after case."""
    parser = arguments("The lakehouse against its limits and its peers.", rows=1_000_000)
    parser.add_argument("--only", help="names of cases, separated by commas (default: all)")
    parser.add_argument("--store", choices=("folder", "swift", "rest"), default="folder", help="where the tables lie (default: folder)")
    parser.add_argument("--no-peers", action="store_true", help="leave the others out")
    parser.add_argument("--folder", type=Path, help="where scratch files go (default: the system's temporary folder)")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-lakehouse-", dir=given.folder))
    options = Options(given.rows, given.repetitions, given.store, folder, peers=not given.no_peers)
    try:
        for name, case in chosen_cases(given.only).items():
            report(case(options), as_json=given.json, title=name)
    except PlatformError as error:
        sys.exit(str(error))
    finally:
        end_store(options.store, folder)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

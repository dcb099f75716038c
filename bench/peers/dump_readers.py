"""The field's own readers of dumps, mwxml and mwsql, in an environment of their own.

The environment is made on demand under the cache folder; a worker in it (`dump_worker.py`) reads a file to its end, and says how long
that took and what it had resident.
"""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

from platform_resources.config import Settings

PINS = ("mwxml==0.3.8", "mwsql==1.0.4")
WORKER = Path(__file__).with_name("dump_worker.py")


def environment() -> Path | str:
    """The Python of the readers' environment, or why there is none."""
    python = Settings().cache / "bench" / "dump-readers" / "bin" / "python"
    try:
        if not python.exists():
            venv.create(python.parents[1], with_pip=True)
        installed = python.parents[1] / ".installed"
        if not installed.exists() or installed.read_text() != repr(PINS):
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PINS], check=True, capture_output=True, text=True, timeout=900)
            installed.write_text(repr(PINS))
    except subprocess.CalledProcessError as error:
        return f"its environment cannot be made: {str(error.stderr).strip().splitlines()[-1]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it cannot: {error}"
    return python

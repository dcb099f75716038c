"""docs/products/grants.md: what it says to paste works when pasted."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from platform_resources.config import SOURCE_ROOT


@pytest.mark.storm
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    page = (SOURCE_ROOT / "docs" / "products" / "grants.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        block = block.replace("8123", str(free.getsockname()[1]))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "SDP_HOME": str(tmp_path / "home"), "PATH": path}
    done = subprocess.run(
        ["bash", "-ec", block], cwd=SOURCE_ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"United States|Germany|India", done.stdout) or "5 rows" in done.stdout
    assert "grantees_ceil" in done.stdout

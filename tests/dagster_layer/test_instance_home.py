"""DAGSTER_HOME of an instance is refreshed from the project at each start, without Dagster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance
from dagster._core.instance.ref import InstanceRef

from platform_resources.config import SOURCE_ROOT, Settings, prepare_home
from platform_resources.errors import PlatformError
from platform_resources.stack.instance import prepare_dagster_home


def test_home_takes_the_projects_file_again_at_each_start(settings: Settings) -> None:
    home = prepare_dagster_home(settings)
    assert (home / "dagster.yaml").read_text() == (SOURCE_ROOT / "dagster.yaml").read_text()
    (settings.project / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (home / "dagster.yaml").write_text("from: an older start\n")
    prepare_dagster_home(settings)
    assert yaml.safe_load((home / "dagster.yaml").read_text()) == {"telemetry": {"enabled": False}}


def test_dagster_takes_the_embedded_instance_as_it_is(settings: Settings) -> None:
    home = prepare_dagster_home(settings)
    with DagsterInstance.from_ref(InstanceRef.from_dir(str(home))) as instance:
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance.run_monitoring_enabled
        config = instance.get_concurrency_config()
        assert config.pool_config.default_pool_limit == 1
        assert instance.run_coordinator.dequeue_interval_seconds == 1  # type: ignore[attr-defined]
    assert home.is_relative_to(settings.home)


def test_a_file_mounted_in_production_is_left_alone(settings: Settings) -> None:
    production = settings.model_copy(update={"profile": "production"})
    production.dagster_home.mkdir(parents=True)
    mounted = production.dagster_home / "dagster.yaml"
    mounted.write_text("telemetry: {enabled: false} # mounted\n")
    prepare_dagster_home(production)
    assert "mounted" in mounted.read_text()


def test_a_home_that_cannot_be_written_is_one_sentence(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    blocked = settings.model_copy(update={"home": tmp_path / "file"})
    with pytest.raises(PlatformError) as caught:
        prepare_dagster_home(blocked)
    assert caught.value.code == "home-unwritable"
    assert "SDP_HOME" in caught.value.remedy


def test_a_home_in_a_repository_is_no_part_of_it(settings: Settings, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    home = prepare_home(settings.model_copy(update={"home": tmp_path / ".sdp-stack"}))
    (home / "stack").mkdir()
    (home / "stack" / "client.json").write_text("a key")
    seen = subprocess.run(["git", "status", "--porcelain", "-uall"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert ".sdp-stack" not in seen.stdout


def test_preparing_a_home_imports_no_dagster() -> None:
    code = "import sys; import platform_resources.stack.instance; sys.exit('dagster' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=SOURCE_ROOT, check=False).returncode == 0


def test_processes_that_start_on_a_new_home_at_once_all_find_it_usable(settings: Settings) -> None:
    """Code servers do: each that made the databases by itself would leave them with more than one schema head, and nothing starts again."""
    code = (
        "from dagster import DagsterInstance; from platform_resources.config import load_settings;"
        "from platform_resources.stack.instance import prepare_dagster_home;"
        "DagsterInstance.from_config(str(prepare_dagster_home(load_settings()))).get_runs(limit=1)"
    )
    environment = {**os.environ, "SDP_HOME": str(settings.home), "PYTHONPATH": str(SOURCE_ROOT)}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE) for _ in range(4)]
    assert [(process.communicate()[1].decode()[-300:], process.returncode) for process in processes] == [("", 0)] * 4

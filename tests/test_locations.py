"""Every location of workspace.yaml loads the way it is loaded in production: by Dagster's gRPC code server, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from dagster import DagsterInstance, DefaultSensorStatus
from dagster._core.instance.ref import InstanceRef
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.stack.instance import prepare_dagster_home
from platform_resources.workspace import read_locations


def test_every_location_loads_in_a_code_server_with_its_sensors_running(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(SOURCE_ROOT)
    monkeypatch.setenv("SDP_HOME", str(settings.home))
    expected = {location.name: location.domain for location in read_locations(SOURCE_ROOT)}
    home = prepare_dagster_home(settings)
    with (
        DagsterInstance.from_ref(InstanceRef.from_dir(str(home))) as instance,
        WorkspaceProcessContext(instance, WorkspaceFileTarget([str(SOURCE_ROOT / "workspace.yaml")])) as process,
    ):
        context = process.create_request_context()
        errors = {
            entry.origin.location_name: entry.load_error.message
            for entry in context.get_code_location_entries().values()
            if entry.load_error
        }
        assert errors == {}
        assert set(context.code_location_names) == set(expected)
        keys: dict[tuple[str, ...], str] = {}
        for location in context.code_locations:
            [repository] = location.get_repositories().values()
            domain = expected[location.name]
            sensors = repository.get_sensors()
            assert any("alerts" in sensor.name for sensor in sensors)
            assert len(sensors) + len(repository.get_schedules()) >= 2
            assert {sensor.default_status for sensor in sensors} == {DefaultSensorStatus.RUNNING}
            for node in repository.asset_graph.asset_nodes:
                if not node.is_materializable:
                    continue
                assert node.key.path[0] == domain
                assert node.group_name == domain
                assert node.owners
                assert tuple(node.key.path) not in keys, f"{node.key} is made by {location.name} and {keys[tuple(node.key.path)]}"
                keys[tuple(node.key.path)] = location.name
        assert len(keys) >= len(expected)
    assert not (settings.home / "warehouse").exists()  # loading touches no table

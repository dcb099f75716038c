"""What production mounts is read by Dagster itself here: a typing error in deploy/ fails a test, not a roll-out."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml
from dagster import DagsterRun
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._serdes import ConfigurableClassData

from platform_resources.config import SOURCE_ROOT
from platform_resources.workspace import read_locations

DEPLOY = SOURCE_ROOT / "deploy"
ENVIRONMENT = {
    "SDP_DAGSTER_PG_HOST": "postgres.example.org",
    "SDP_DAGSTER_PG_USER": "dagster",
    "SDP_DAGSTER_PG_PASSWORD": "pass@word",
    "SDP_DAGSTER_PG_DB": "dagster",
    "SDP_K8S_NAMESPACE": "data-platform",
    "SDP_K8S_SERVICE_ACCOUNT": "sdp-runs",
}
KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "c",
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {"token": "none"}}],
}


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstanceRef:
    """deploy/dagster.yaml as the webserver would take it."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return InstanceRef.from_dir(str(tmp_path), config_dir=str(DEPLOY))


def altered(data: ConfigurableClassData, **changes: object) -> ConfigurableClassData:
    config = yaml.safe_load(data.config_yaml)
    for name, value in changes.items():
        if value is None:
            config.pop(name, None)
        else:
            config[name] = value
    return ConfigurableClassData(data.module_name, data.class_name, yaml.safe_dump(config))


def test_instance_settings_are_those_dagster_knows(reference: InstanceRef) -> None:
    settings, custom = dagster_instance_config(str(DEPLOY))
    assert custom is None
    assert settings["telemetry"] == settings["nux"] == {"enabled": False}
    assert settings["run_monitoring"]["enabled"] is True
    assert reference.run_coordinator.__class__.__name__ == "QueuedRunCoordinator"


@pytest.mark.parametrize("part", ["run_storage_data", "event_storage_data", "schedule_storage_data"])
def test_postgres_storage_accepts_its_configuration_and_uses_psycopg2(reference: InstanceRef, part: str) -> None:
    data: ConfigurableClassData = getattr(reference, part)
    # No server is asked: only the creation of tables would, and a wrong scheme or a missing driver shows without it.
    storage = altered(data, should_autocreate_tables=False).rehydrate(importlib.import_module(data.module_name).__dict__[data.class_name])
    assert storage.postgres_url == "postgresql+psycopg2://dagster:pass%40word@postgres.example.org:5432/dagster"
    assert storage._engine.dialect.driver == "psycopg2"


def test_run_launcher_accepts_its_configuration(reference: InstanceRef, tmp_path: Path) -> None:
    from dagster_k8s import K8sRunLauncher
    from dagster_k8s.container_context import K8sContainerContext

    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(KUBECONFIG))
    data = reference.run_launcher_data
    assert data is not None
    # Outside a cluster the launcher needs a kubeconfig; everything else is as deployed.
    launcher = altered(data, load_incluster_config=False, kubeconfig_file=str(kubeconfig)).rehydrate(K8sRunLauncher)
    assert launcher.job_namespace == "data-platform"
    run = DagsterRun(job_name="__ASSET_JOB", run_id="0" * 8)
    context = K8sContainerContext.create_for_run(run, launcher, include_run_tags=True)
    assert context.run_k8s_config.pod_spec_config["service_account_name"] == "sdp-runs"
    assert context.run_k8s_config.pod_spec_config["termination_grace_period_seconds"] == 60
    assert {
        source["config_map_ref"]["name"] for source in context.run_k8s_config.container_config["env_from"] if "config_map_ref" in source
    } == {"sdp-settings"}


def test_an_unknown_launcher_setting_is_refused(reference: InstanceRef) -> None:
    from dagster import DagsterInvalidConfigError
    from dagster_k8s import K8sRunLauncher

    assert reference.run_launcher_data is not None
    with pytest.raises(DagsterInvalidConfigError):
        altered(reference.run_launcher_data, job_namespce="x").rehydrate(K8sRunLauncher)


def test_every_domain_has_a_code_server_in_production() -> None:
    origins = location_origins_from_yaml_paths([str(DEPLOY / "workspace.yaml")])
    assert {origin.location_name for origin in origins} == {location.name for location in read_locations(SOURCE_ROOT)}
    assert WorkspaceFileTarget([str(DEPLOY / "workspace.yaml")]).create_origins()
    assert len({origin.host for origin in origins}) == len(origins)


def test_drains_transforms_and_maintenance_have_their_own_share_in_both_instances() -> None:
    for folder in (SOURCE_ROOT, DEPLOY):
        limits = yaml.safe_load((folder / "dagster.yaml").read_text())["concurrency"]["runs"]["tag_concurrency_limits"]
        assert {limit["value"] for limit in limits} == {"drain", "transform", "maintain"}

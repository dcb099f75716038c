"""A run in this process, recorded in the Dagster instance of SDP_HOME, so that the UI shows it like any other.

The location is found through workspace.yaml and imported by name: no domain is known here. Which options a run takes is said by
`platform_resources.runs`; what the commands print is in `cli.runs`.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_resources.config import Settings
from platform_resources.contracts.model import Contract
from platform_resources.errors import PlatformError
from platform_resources.runs import FOREGROUND_TAG, asset_key_parts
from platform_resources.stack.instance import prepare_dagster_home
from platform_resources.workspace import Location, find_location

if TYPE_CHECKING:
    import dagster as dg

_TOLD = ("ASSET_MATERIALIZATION", "ASSET_OBSERVATION", "ASSET_CHECK_EVALUATION")
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}  # what happened is in the UI; stderr is for one sentence


@dataclass(frozen=True)
class Outcome:
    """What a foreground run left: its id, `success`, `failure` or `canceled`, the sentence of its failure with its code, the metadata of
    the last materialisation and of the last observation (plain Python values), and its check results.
    """

    run_id: str
    status: str
    fault: str | None = None
    code: str = "run-failed"
    facts: Mapping[str, Any] = field(default_factory=dict)
    observed: Mapping[str, Any] = field(default_factory=dict)
    checks: Sequence[Mapping[str, Any]] = ()
    refused_branch: str | None = None
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def remedy(self) -> str:
        """Where to look; nowhere for a run that another one kept from its work, which the sentence names."""
        return "" if self.code == "already-running" else f"The run is {self.run_id}."

    @property
    def error(self) -> dict[str, Any] | None:
        """Why it failed, as the JSON of every command has it; None for a run that did not."""
        if self.fault is None:
            return None
        return {"code": self.code, "message": self.fault, "remedy": self.remedy, "file": "", "line": 0, **self.told}


def execute(settings: Settings, contract: Contract, *, tags: Mapping[str, str], config: Mapping[str, Any]) -> Outcome:
    """Materialise one product here and now. A run that Ctrl-C or SIGTERM kept from its end is canceled, so that nobody gets a mail.

    Raises:
        PlatformError: `domain-unregistered`, `workspace-invalid`, `location-broken` or what the location itself refuses with.
    """
    import dagster as dg

    home = prepare_dagster_home(settings)
    os.environ["DAGSTER_HOME"] = str(home)
    key = dg.AssetKey(asset_key_parts(contract.key))
    job = _job(load_location(settings, contract.domain), key, contract)
    run_id = str(uuid.uuid4())
    with dg.DagsterInstance.from_config(str(home)) as instance, _signals_noted() as interrupted:
        _shield_log_helpers(instance)
        try:
            result = job.execute_in_process(
                run_config={**QUIET, **config},
                instance=instance,
                tags={**tags, FOREGROUND_TAG: str(os.getpid())},
                asset_selection=[key],
                raise_on_error=False,
                run_id=run_id,
            )
        except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
            _cancel(instance, run_id)  # before Dagster caught signals, or after
            raise KeyboardInterrupt from None
        if not result.success and interrupted():
            _cancel(instance, run_id)
            return Outcome(run_id, "canceled", f"{contract.key} was interrupted, its run is canceled.", "interrupted")
        run = instance.get_run_by_id(run_id)
        status = run.status.value.lower() if run else ("success" if result.success else "failure")
        # What an asset logs while it runs is in no result of a run that failed, so the instance is asked.
        entries = instance.all_logs(run_id, of_type={dg.DagsterEventType[name] for name in _TOLD})
        logged = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
    fault, code, facts = _fault(result)
    return Outcome(
        result.run_id,
        "success" if result.success else status,
        None if result.success else fault or "The run failed without saying why.",
        code,
        _newest(logged, "ASSET_MATERIALIZATION"),
        _newest(logged, "ASSET_OBSERVATION"),
        [_check(event.asset_check_evaluation_data) for event in logged if event.event_type_value == "ASSET_CHECK_EVALUATION"],
        facts.get("sdp/refused_branch"),
        facts.get("sdp/error") or {},
    )


def _cancel(instance: dg.DagsterInstance, run_id: str) -> None:
    """Let an interrupted run be canceled: Dagster takes it for failed, since nobody asked for its end in the UI."""
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status.value != "CANCELED":
        instance.report_run_canceled(run, message="Interrupted at the command line.")


def _shield_log_helpers(instance: dg.DagsterInstance) -> None:
    """Keep Ctrl-C from the processes with which Dagster shows what a step prints (`tail`, and one that watches over it).

    They stand in the terminal's process group, so each would end with a trace of its own in front of our sentence. Started while SIGINT
    is blocked they never get it; Dagster ends them with SIGTERM. One that comes in that moment is ours, a moment later.
    """
    capture = instance.compute_log_manager.capture_logs

    @contextmanager
    def shielded(log_key: Sequence[str]) -> Iterator[Any]:
        with ExitStack() as stack:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                captured = stack.enter_context(capture(log_key))
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield captured

    instance.compute_log_manager.capture_logs = shielded  # type: ignore[method-assign]


@contextmanager
def _signals_noted() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C or SIGTERM has come since.

    Dagster and the drains put handlers of their own in place, and what these raise inside DuckDB comes out as a fault of the query; so
    the interpreter's wake-up descriptor is read, which has every signal whoever handles it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # Python gives signals to the main thread only
        return
    ours, pythons = socket.socketpair()
    ours.setblocking(False)
    pythons.setblocking(False)
    before = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)

    def came() -> bool:
        try:
            return bool({signal.SIGINT, signal.SIGTERM} & set(ours.recv(4096, socket.MSG_PEEK)))
        except BlockingIOError:
            return False

    try:
        yield came
    finally:
        signal.set_wakeup_fd(before)
        ours.close()
        pythons.close()


def load_location(settings: Settings, domain: str) -> Any:
    """The module of a domain's location, imported from the project as its code server does.

    Raises:
        PlatformError: `domain-unregistered`, `location-broken`, or the sentence with which the location refuses itself.
    """
    location = find_location(settings.project, domain)
    use_project(settings, location.directory)
    try:
        return importlib.import_module(location.module)
    except PlatformError:
        raise
    except Exception as error:  # whatever a team's own module raises is told with its place
        told = _broken(location, error, settings.project)
        if told is None:
            raise  # the platform's own fault
        raise told from error


def use_project(settings: Settings, directory: Path | None = None) -> None:
    """Let modules of the project be imported, before any of the platform's own checkout, and tell every part below which project and
    home are meant.
    """
    os.environ["SDP_PROJECT"], os.environ["SDP_HOME"] = str(settings.project), str(settings.home)
    for folder in (settings.project, directory):
        if folder is not None and str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    package = sys.modules.get("data_products")
    own = str(settings.project / "data_products")
    if package is not None and own not in package.__path__:  # imported before the project was known, by a test or a tool
        package.__path__.insert(0, own)


def _broken(location: Location, error: Exception, project: Path) -> PlatformError | None:
    """The fault of a team's own module with its line; None when the trace ends elsewhere."""
    if isinstance(error, SyntaxError) and error.filename:
        path, line = Path(error.filename), error.lineno or 0
    else:
        last = traceback.extract_tb(error.__traceback__)[-1]
        path, line = Path(last.filename), last.lineno or 0
    if isinstance(error, ModuleNotFoundError):
        path, line = location.folder / "definitions.py", 0
    if not path.is_relative_to(location.folder):
        return None
    file = path.relative_to(project) if path.is_relative_to(project) else path
    what = " ".join(str(error).split())
    return PlatformError(
        "location-broken",
        f"The location {location.name} cannot be loaded: {type(error).__name__}: {what}.",
        "Mend that file.",
        file=file,
        line=line,
    )


def _job(module: Any, key: dg.AssetKey, contract: Contract) -> dg.JobDefinition:
    """The job that materialises the asset, from whatever Definitions the module holds."""
    import dagster as dg

    for value in vars(module).values():
        if isinstance(value, dg.Definitions):
            repository = value.get_repository_def()
            if key in repository.asset_graph.materializable_asset_keys:
                return repository.get_implicit_job_def_for_assets([key]) or value.resolve_implicit_global_asset_job_def()
    raise PlatformError(
        "asset-absent",
        f"The location {module.__name__} has no asset for {contract.key}.",
        "Let its definitions.py say `defs = domain_definitions(__package__)`.",
    )


def _fault(result: Any) -> tuple[str | None, str, Mapping[str, Any]]:
    """The sentence, the code and the facts of the first failed step."""
    for event in result.all_events:
        if event.event_type_value == "STEP_FAILURE":
            data = event.event_specific_data
            if data.user_failure_data is not None:
                metadata = _plain_metadata(data.user_failure_data.metadata)
                return data.user_failure_data.description, str(metadata.get("sdp/code", "run-failed")), metadata
            error = data.error.cause or data.error
            return " ".join(error.message.split()), "run-failed", {}
        if event.event_type_value in ("PIPELINE_FAILURE", "PIPELINE_CANCELED") and event.event_specific_data is not None:
            error = getattr(event.event_specific_data, "error", None)
            if error is not None:
                return " ".join(error.message.split()), "run-failed", {}
    return None, "run-failed", {}


def _newest(events: Sequence[Any], kind: str) -> dict[str, Any]:
    """Metadata of the last event of a kind."""
    found: dict[str, Any] = {}
    for event in events:
        if event.event_type_value == kind:
            data = event.event_specific_data
            entry = data.materialization if kind == "ASSET_MATERIALIZATION" else data.asset_observation
            found = _plain_metadata(entry.metadata)
    return found


def _check(evaluation: Any) -> dict[str, Any]:
    metadata = _plain_metadata(evaluation.metadata)
    return {
        "name": evaluation.check_name,
        "passed": evaluation.passed,
        "severity": "error" if evaluation.severity.value == "ERROR" else "warning",
        "measured": metadata.get("sdp/measured"),
        "rows": metadata.get("sdp/rows"),
        "description": evaluation.description,
    }


def _plain_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata values as Python values; those that have none (a column schema) are left out."""
    return {name: value.value for name, value in metadata.items() if hasattr(value, "value")}

"""The command line `sdp`. Thin: it reads arguments, calls the platform, prints a table or one JSON document.

Here stand the list of commands and the border where errors become sentences and exit statuses; each command's module is imported
only when it is called, so that `sdp produce` never pays for Dagster.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from types import FrameType
from typing import Any, NoReturn

import click

from platform_resources.errors import PlatformError

# Section -> command -> (module, one line for `sdp --help`). The line is here, since help must not import the module.
SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Events": {
        "produce": ("events", "Put events on a stream, each checked against its contract."),
        "replay": ("events", "Produce a recorded file at the pace of its event times."),
    },
    "Products": {
        "ingest": ("runs", "Drain a stream into its product, in the foreground."),
        "run": ("runs", "Compute a derived product, in the foreground."),
        "query": ("products", "Ask SQL over all products."),
        "list": ("products", "All products, with owner, kind and rows."),
        "show": ("showing", "One product: columns, promises, owners, inputs, readers."),
        "table": ("tables", "A product's table: its history, taking it back, naming snapshots."),
        "status": ("status", "How fresh and how healthy each product is."),
    },
    "Build": {
        "check": ("checking", "Check every contract, transform and registration."),
        "new": ("creating", "Draft a new domain or product."),
    },
    "Platform": {
        "up": ("platform", "Run the platform: UI, daemon, one code server per domain."),
        "maintain": ("maintaining", "Compact, expire and age tables whose facts call for it."),
        "doctor": ("doctor", "What this machine has and lacks, by profile."),
        "stack": ("platform", "Real servers on this machine: Kafka, PostgreSQL, Swift and more."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}

EXAMPLES = """\b
Examples:
  sdp new domain weather --owner weather-team@example.org
  sdp new product weather/reading --from-sample readings.ndjson
  sdp produce weather.reading.v1 readings.ndjson
  sdp ingest weather/reading --until-idle
  sdp query "select station, max(temperature) from weather.reading group by all"
  sdp check && sdp up

\b
State lies under SDP_HOME (default .sdp/ in the project's folder).
Commands that answer programs take --json: one document on stdout.
Exit status: 0 done, 1 refused or failed with one sentence on stderr, 2 wrong usage, 130 interrupted.
Events that produce or replay refuse are told in the answer, status 0; with --strict status 1."""


class _ReaderLeft(Exception):  # noqa: N818 - no error, a turn of events
    """Nobody reads stdout any more."""


class Sdp(click.Group):
    """The root command: lazy, grouped by section, and the border between exceptions and exit statuses."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name, in the order of the sections."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return it."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"platform_resources.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click, with the nearest names when there is no such command."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"There is no command {args[0]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by section, with their one line; imports nothing."""
        width = max(map(len, COMMANDS))
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), line) for name, (_, line) in commands.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click would turn a broken pipe into status 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderLeft from None

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *rest: Any, **extra: Any) -> NoReturn:
        """Run and exit: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted, 141 when nobody reads the output."""
        extra["standalone_mode"] = False
        with _interrupts_noted() as interrupted:
            self._main(args, prog_name, *rest, interrupted=interrupted, **extra)

    def _main(
        self, args: Sequence[str] | None, prog_name: str | None, *rest: Any, interrupted: Callable[[], bool], **extra: Any
    ) -> NoReturn:
        try:
            result = super().main(args, prog_name or "sdp", *rest, **extra)
            sys.stdout.flush()
            sys.exit(result if isinstance(result, int) else 0)
        except PlatformError as error:
            if interrupted():
                _end_interrupted()
            _tell(f"{' '.join(str(error).split())} [{error.code}]")  # a location refused for many problems comes in lines
            sys.exit(1)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt) as error:
            _end_interrupted(str(error))
        except (_ReaderLeft, BrokenPipeError):
            # The reader (head, less) has left: end as `cat` would, and keep the interpreter from complaining at exit.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except Exception as error:  # noqa: BLE001 - the last border: a fault of the platform itself is told in a sentence too
            if interrupted():
                _end_interrupted()
            if type(error).__name__ == "DagsterPostgresException":  # known by its name: most commands never import Dagster
                _tell(
                    f"Dagster's storage in PostgreSQL did not answer: {_last_reason(error)}. "
                    "See that it runs (`sdp stack status`) and repeat the command. [storage-unreachable]"
                )
                sys.exit(1)
            if os.environ.get("SDP_DEBUG"):
                traceback.print_exc()
            what = " ".join(str(error).split()) or type(error).__name__
            _tell(f"The platform itself failed: {type(error).__name__}: {what[:500]}. Repeat with SDP_DEBUG=1 for the trace. [internal]")
            sys.exit(1)


def _last_reason(error: BaseException) -> str:
    """The first line of what the first cause of an error says; libpq asks the user a question in the next."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return next(iter(str(error).rpartition("failed: ")[2].splitlines()), type(error).__name__).rstrip(".")


@contextlib.contextmanager
def _interrupts_noted() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C has come since: what it raises inside DuckDB comes out as a fault of the query."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False  # Python gives signals to the main thread only; or somebody else deals with them
        return
    came = threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        came.set()
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end_interrupted(said: str = "") -> NoReturn:
    _tell(said or "Interrupted.")
    sys.exit(130)


def _tell(sentence: str) -> None:
    """One line on stderr."""
    with contextlib.suppress(BrokenPipeError):
        click.echo(sentence, err=True)


@click.group(cls=Sdp, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("shared-data-platform"), prog_name="sdp")
def cli() -> None:
    """Shared Data Platform: a contract and a transform become a running data product."""


def main() -> NoReturn:
    """Entry point of the `sdp` script."""
    cli.main()

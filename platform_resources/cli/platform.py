"""`sdp up` and `sdp stack`: the platform's own processes and the real servers beside it."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import click

from platform_resources.cli.output import Col, Command, answer, draw_table, json_option, progress
from platform_resources.config import load_settings

if TYPE_CHECKING:
    from rich.console import Console

    from platform_resources.stack.service import Service


@click.command("up", cls=Command, reads_tables=True)
@click.option("--port", type=click.IntRange(0, 65535), default=3000, show_default=True, help="Port of the UI; when busy the next free one.")
def up_command(port: int) -> None:
    """Run the platform on this home until Ctrl-C: the UI, the daemon with its sensors, and a code server for each domain.

    Everything listens on loopback only. A domain added to workspace.yaml, or a changed contract or transform, is taken in while it
    runs. Each process has its log under SDP_HOME/logs.
    """
    from platform_resources.stack.platform import Platform

    settings = load_settings()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    Platform(settings, port=port, report=click.echo).run(stop)


@click.group("stack")
def stack_command() -> None:
    """The real servers of the stack profile on this machine, on loopback, with their data under SDP_HOME/stack.

    NAME is a server, e.g. kafka. Without a name, `up` starts what the profile needs by default and the others mean all. Commands use
    these servers under SDP_PROFILE=stack only: `sdp stack up` and `sdp stack status` print the lines to type while they do not.
    """


def _chosen(names: tuple[str, ...]) -> list[Service]:
    from platform_resources.stack.services import SERVICES, service

    return [service(name) for name in names] if names else list(SERVICES.values())


def _to_start(names: tuple[str, ...]) -> list[Service]:
    from platform_resources.stack.services import PROFILE, in_order

    return in_order(names or PROFILE)


@stack_command.command("up", cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def stack_up(names: tuple[str, ...], as_json: bool) -> None:
    """Install what is missing, start the servers and those they need, and wait until they do their work; one that runs is left alone."""
    from platform_resources.stack.services import make_startable

    settings = load_settings()
    starting = _to_start(names)
    for each in starting:
        with progress(f"preparing {each.name}"):
            make_startable(each, settings)
    for each in starting:
        with progress(f"starting {each.name}"):
            each.up(settings)
    _print_status(tuple(each.name for each in starting), as_json=as_json)


@stack_command.command("down", cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def stack_down(names: tuple[str, ...], as_json: bool) -> None:
    """Stop the servers; their data stays."""
    settings = load_settings()
    for each in reversed(_chosen(names)):  # clients of another before that one
        with progress(f"stopping {each.name}"):
            each.down(settings)
    _print_status(names, as_json=as_json)


@stack_command.command("status", cls=Command)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def stack_status(names: tuple[str, ...], as_json: bool) -> None:
    """Which servers run, and where."""
    _print_status(names, as_json=as_json)


@stack_command.command("logs", cls=Command)
@click.argument("name")
@click.option("--lines", type=click.IntRange(1), default=100, show_default=True, help="How many of the last lines.")
def stack_logs(name: str, lines: int) -> None:
    """The last lines of a server's log."""
    (each,) = _chosen((name,))
    for line in each.logs(load_settings(), lines=lines):
        click.echo(line)


def _print_status(names: tuple[str, ...], *, as_json: bool) -> None:
    settings = load_settings()
    chosen = _chosen(names)
    found = [each.status(settings) for each in chosen]

    def draw(console: Console) -> None:
        rows = [(item.name, "running" if item.running else "stopped", item.address, item.pid and str(item.pid), item.log) for item in found]
        draw_table(
            console, [Col("server", keep=True), Col("state", keep=True), Col("address", keep=True), Col("process"), Col("log")], rows
        )

        unused = {each.name: each.to_use(settings, item.address) for each, item in zip(chosen, found, strict=True) if item.address}
        lines = list(dict.fromkeys(line for wanted in unused.values() for line in wanted))
        if lines:
            names = ", ".join(name for name, wanted in unused.items() if wanted)
            console.print(f"Commands do not use {names} yet. Next, in every shell that is to use it:")
            for line in lines:
                console.print(f"  {line}", soft_wrap=True, highlight=False)

    answer([item.as_dict() for item in found], as_json=as_json, human=draw)

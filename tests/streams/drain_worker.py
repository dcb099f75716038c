"""A drain as a process that may be killed: `drain_worker.py TOPIC [--until end|idle|SECONDS] [--wide] [--loop]`; settings from SDP_*.

Prints the report as one JSON line. Imports no Dagster, so that it starts quickly.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading

from platform_resources.config import load_settings
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.streams.ingestion import Drain
from platform_resources.streams.log import open_log
from tests.streams.ingestion_kit import contract, run_id


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("topic")
    parser.add_argument("--until", default="end")
    parser.add_argument("--wide", action="store_true")
    chosen = parser.parse_args()
    settings, stop = load_settings(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    drain = Drain(
        contract(chosen.topic, wide=chosen.wide), lakehouse=Lakehouse(settings), log=open_log(settings), run_id=run_id(), settings=settings
    )
    print("ready", flush=True)
    report = drain.run(until=chosen.until if chosen.until in ("end", "idle") else float(chosen.until), stop=stop)
    print(json.dumps({"read": report.read, "inserted": report.inserted, "superseded": report.superseded, "stopped_by": report.stopped_by}))


if __name__ == "__main__":
    main()

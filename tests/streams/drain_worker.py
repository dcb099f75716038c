"""A drain as a process that may be killed; settings come from SDP_*.

Prints `ready`, then the report as one JSON line. Imports no Dagster, so that it starts quickly.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from datetime import timedelta

from platform_resources.config import load_settings
from platform_resources.contracts.model import Sla
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.streams.ingestion import Drain
from platform_resources.streams.log import open_log
from tests.streams.ingestion_kit import NO_FORBIDDEN, contract, run_id


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("topic")
    parser.add_argument("--until", default="end")
    parser.add_argument("--wide", action="store_true", help="the contract with the column `more`")
    parser.add_argument("--unchecked", action="store_true", help="the contract without rules")
    parser.add_argument("--promise", type=float, default=60.0, help="promised latency, seconds")
    chosen = parser.parse_args()
    settings, stop = load_settings(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    of = contract(
        chosen.topic,
        wide=chosen.wide,
        checks=() if chosen.unchecked else (NO_FORBIDDEN,),
        sla=Sla(latency=timedelta(seconds=chosen.promise)),
    )
    drain = Drain(of, lakehouse=Lakehouse(settings), log=open_log(settings), run_id=run_id(), settings=settings)
    print("ready", flush=True)
    report = drain.run(until=chosen.until if chosen.until in ("end", "idle") else float(chosen.until), stop=stop)
    print(json.dumps({"read": report.read, "inserted": report.inserted, "superseded": report.superseded, "stopped_by": report.stopped_by}))


if __name__ == "__main__":
    main()

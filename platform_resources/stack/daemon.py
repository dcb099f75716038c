"""The Dagster daemon as `sdp up` runs it: Dagster's own, reading its workspace file every 15 s instead of every 60 s.

The interval is a constant of Dagster's (1.13.27) with no setting; at 60 s a new domain waited up to a minute for its first tick.
"""

from __future__ import annotations

from dagster._daemon import controller

RELOAD_SECONDS = 15

if __name__ == "__main__":
    from dagster._daemon.cli import main

    controller.RELOAD_WORKSPACE_INTERVAL = RELOAD_SECONDS
    main()

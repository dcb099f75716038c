"""A cache for a Swift proxy that is a single process: what it knows of accounts and containers stays in its own memory.

Swift asks memcached for that; without one, each S3 request asks the account and the container servers again. It stands in the
proxy's pipeline, in Swift's environment, and imports nothing of the platform.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any


class Memory:
    """What Swift's middleware wants of `swift.cache`: values by key with a time to live in seconds, 0 for ever."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[float, Any]] = {}

    def set(self, key: str, value: Any, *_args: Any, time: float = 0, **_options: Any) -> None:
        """Keep a value."""
        self._values[key] = (_now() + time if time else float("inf"), value)

    def get(self, key: str, **_options: Any) -> Any:
        """The value, or None."""
        until, value = self._values.get(key, (0.0, None))
        return value if until > _now() else None

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        """Count."""
        value = max(int(self.get(key) or 0) + int(delta), 0)
        self.set(key, value, time=time)
        return value

    def decr(self, key: str, delta: int = 1, time: float = 0) -> int:
        """Count down."""
        return self.incr(key, -delta, time)

    def delete(self, key: str, *_args: Any, **_options: Any) -> None:
        """Forget a value."""
        self._values.pop(key, None)

    def set_multi(self, mapping: Mapping[str, Any], *_args: Any, time: float = 0, **_options: Any) -> None:
        """Keep several."""
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys: Iterable[str], *_args: Any) -> list[Any]:
        """Several, None where there is none."""
        return [self.get(key) for key in keys]


_now = time.monotonic


def filter_factory(_global_conf: Mapping[str, str], **_local_conf: str) -> Callable[[Any], Any]:
    """The middleware, as paste.deploy wants it."""
    memory = Memory()

    def with_cache(app: Any) -> Any:
        def call(environ: dict[str, Any], start_response: Any) -> Any:
            environ["swift.cache"] = memory
            return app(environ, start_response)

        return call

    return with_cache

"""The lakehouse fixtures of the lakehouse suite, whatever backends that runs over."""

from tests.lakehouse.conftest import *  # noqa: F403

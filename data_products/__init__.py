"""A package per domain team, and `assembly`, which turns a team's contracts and transforms into a Dagster code location.

The path is extended over every `data_products` folder on `sys.path`, so that a project of its own (`SDP_PROJECT`) can hold domain
packages beside the platform's.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)

"""One package per domain team, each a Dagster code location of its own."""

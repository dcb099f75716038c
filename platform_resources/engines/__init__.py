"""DuckDB sessions over the lakehouse, SQL and Python transforms, audits, incremental derivation."""

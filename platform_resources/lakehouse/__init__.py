"""Everything that touches Iceberg: catalog, staged writes, merge, changes, reading. Knows no Dagster and no contract files."""

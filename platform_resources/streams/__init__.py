"""Everything that touches events: the log, the gate, the codec, exactly-once ingestion. Knows no Dagster."""

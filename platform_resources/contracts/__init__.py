"""Contracts: read, validate, resolve and diff them; compile them to Iceberg, JSON Schema, checks and Dagster specs. No lakehouse client."""

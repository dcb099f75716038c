"""Benchmarks: each prints a table, with --json one object per line. Nothing here is imported by the platform."""

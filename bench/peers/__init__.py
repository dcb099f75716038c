"""Peers that need a Python environment of their own."""

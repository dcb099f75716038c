"""The demo: a seeded generator of realistic events and the script of `make demo`."""

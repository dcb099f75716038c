# Shared Data Platform: the commands a person types. Each bootstraps what it needs; state lies in .venv and .sdp.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

# The first interpreter that is new enough; PYTHON=... overrides it.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	if command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)

.PHONY: help install demo up test test-storm test-stack lint format snapshot bench clean

# Test files are dealt out to the cores; the tests of one file stay together, since they share servers.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

install: $(STAMP)  ## the environment .venv with the command .venv/bin/sdp

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is missing: apt-get install -y python3 python3-venv (Debian, Ubuntu) or brew install python@3.12 (macOS)." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) lacks the venv module: apt-get install -y python3-venv (Debian, Ubuntu)." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --upgrade >/dev/null
	@echo "Installing the locked packages into $(VENV) (about two minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

demo: install  ## the whole platform on generated events; EXIT=1 ends when all is fresh
	@$(BIN)/python -m demo $(if $(EXIT),--exit)

up: install  ## webserver, daemon and one code server per domain, until Ctrl-C
	@$(BIN)/sdp up

test: install  ## the tests (under 10 minutes on 2 cores)
	@$(BIN)/python -m pytest $(PARALLEL)

test-storm: install  ## kill storms: every failpoint and random kills, over the local log and Kafka
	@$(BIN)/python -m pytest $(PARALLEL) -m "storm and not stack"

test-stack: install  ## the lakehouse over real Swift, PostgreSQL, Iceberg REST and a Spark cluster, with faults
	@$(BIN)/python -m pytest $(PARALLEL) -m "stack and not storm"

lint: install  ## ruff, mypy, import-linter, sdp check
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/sdp check

format: install  ## let ruff format and sort
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

snapshot: install  ## renew the reviewed snapshot of all asset specs
	@SDP_UPDATE_SNAPSHOT=1 $(BIN)/python -m pytest tests/test_asset_specs.py

bench: install  ## ratios against the limit and the peers, printed as tables
	@$(BIN)/python -m bench.lakehouse
	@$(BIN)/python -m bench.ingestion
	@$(BIN)/python -m bench.landing
	@$(BIN)/python -m bench.dumps
	@$(BIN)/python -m bench.tables
	@$(BIN)/python -m bench.pageviews
	@$(BIN)/python -m bench.history

clean:  ## remove the environment, caches and local state
	rm -rf $(VENV) .sdp *.egg-info build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

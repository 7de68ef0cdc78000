# The contributor's guide: `make help` lists what there is. Needs Python 3.10+ and the package registries, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast test-faults check fix bench browser test-offline test-long

help: ## This list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

install: $(STAMP) ## The environment in .venv

demo: $(STAMP) ## A live app: scaffold chat-vite, start backend and page, print the URL (DEMO_ONCE=1: check it and end)
	$(BIN)/python scripts/demo.py $(if $(DEMO_ONCE),--once)

browser: ## Chromium for the browser tests (Debian, as root); otherwise they say that they are skipped
	sh scripts/install-chromium.sh

test: $(STAMP) browser ## Every test but the long ones (three at a time on two cores: many wait for a process or a clock)
	$(PYTEST) -n 3 --dist loadfile --no-loadscope-reorder -m 'not long'

test-long: $(STAMP) ## Those that take minutes: 1 GiB of upload, two dozen npm packages, many kills
	$(PYTEST) --timeout 3600 -m long

test-fast: $(STAMP) ## Without Deno, Node, browser and slow tests
	$(PYTEST) -n 2 -m 'not deno and not node and not browser and not slow and not long'

test-faults: $(STAMP) ## kill -9 and other faults, at full length
	CVX_KILL_CYCLES=2000 CVX_SIMULATION_SEEDS=200 $(PYTEST) --timeout 7200 tests/faults tests/database tests/store

test-offline: $(STAMP) ## The toolchain and the command line in a network namespace without a route (Linux; run `make test` once before)
	$(BIN)/python scripts/offline.py $(PYTEST) -n 2 tests/toolchain tests/cli --deselect tests/toolchain/test_wheel.py

check: $(STAMP) ## Linter, types, contracts between rooms, documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deno check --quiet --no-lock benchmarks/js/load.ts cvx/backend/runner/js/*.js cvx/toolchain/build/bundler.js
	$(PYTEST) tests/house

fix: $(STAMP) ## Let the linter correct what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Measure, and write docs/PERFORMANCE.md
	$(BIN)/python benchmarks/bench.py --write

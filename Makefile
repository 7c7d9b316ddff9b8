# Every target that needs the environment makes it first; scripts/setup.sh returns at once when it is intact.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# An inherited value would leave our own modules without bytecode, and every step's process would compile them anew.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
ROOMS := data serving components pipeline kubeflow
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
FLIGHTS := build/data/.flights

.PHONY: help setup run test test-fast test-all test-distributed lint format types imports lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## build .venv from requirements.lock
	@scripts/setup.sh

run: setup $(FLIGHTS) ## run the example on real flights, end to end
	$(BIN)/headrace run examples/flights.yaml

$(FLIGHTS): | setup
	$(BIN)/headrace data fetch flights build/data
	@touch $@

test: setup lint types imports ## all that CI runs: lint, types, imports, tests and doctests
	$(PYTEST) -m "not slow and not distributed" $(ARGS)

test-fast: setup ## unit tests only, in under three minutes
	$(PYTEST) -m "not slow and not e2e and not long and not distributed" $(ARGS)

test-all: setup lint types imports ## test, and the slow tests too
	$(PYTEST) -m "not distributed" $(ARGS)

test-distributed: setup $(FLIGHTS) ## Beam on a Flink cluster and on Prism, which it fetches; needs Java, Maven and Go
	scripts/beam_engines.sh
	$(BIN)/python -m pytest -m distributed --timeout 1800 $(ARGS) tests/distributed

lint: setup ## ruff
	$(BIN)/ruff check .

format: setup ## let ruff rewrite the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup ## mypy, strict
	@mkdir -p build/types/headrace
	@for room in $(ROOMS); do ln -sfn ../../../$$room build/types/headrace/$$room; done
	$(BIN)/mypy build/types/headrace

imports: setup ## the contracts between rooms
	$(BIN)/lint-imports

lock: setup ## resolve requirements.in into requirements.lock; ARGS=--upgrade renews every pin
	@cp requirements.lock build/requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url --no-emit-find-links $(ARGS) --output-file build/requirements.lock requirements.in
	@{ echo '# Made by `make lock` from requirements.in. Do not edit.'; \
	   cat build/requirements.lock; } > requirements.lock

clean: ## remove what was built, but not runs/ and push/
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# `make demo` and `make test` need Python 3.11 or later, git, make and a package index; they set up the rest.
# Works with the GNU make 3.81 of macOS.

PYTHON ?=
# Processes for the tests. Each has a local Snowflake, Braze and mailbox of its own.
WORKERS ?= 2
export PYTHON
SHELL := /bin/sh
BIN := .venv/bin

# Airflow, Snowflake's connector and the installers all want a home they can write to; without one they get one.
HOME_USABLE := $(shell test -n "$$HOME" && test -w "$$HOME" && echo yes)
ifneq ($(HOME_USABLE),yes)
export HOME := $(CURDIR)/.cache/home
$(shell mkdir -p "$(HOME)")
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo ui test lint format types imports wheel matrix test-distributed bench constraints clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/:/' | awk -F': +' '{printf "make %-16s %s\n", $$1, $$2}'

setup:  ## .venv with Airflow, the provider and its tools (quick when it is there already)
	@scripts/setup

demo: setup  ## cohorts from a local Snowflake into a local Braze through Airflow, shown and proved
	@$(BIN)/python -m airflow_provider_kubit_braze.sandbox.demo

ui: setup  ## the sandbox with Airflow's own pages and weeks of imports behind it, to click; PORT=8080
	@$(BIN)/python -m airflow_provider_kubit_braze.sandbox.ui

test: setup  ## the whole test suite; ARGS="-k name" for a part of it, WORKERS=0 for one process
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup  ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: setup  ## let ruff put right what it can
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

types: setup  ## mypy --strict
	@$(BIN)/mypy

imports: setup  ## who may import whom
	@$(BIN)/lint-imports --no-cache

wheel: setup  ## dist/*.whl
	@rm -rf build dist
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist . >build.log 2>&1 || { cat build.log; rm -f build.log; exit 1; }
	@rm -rf build build.log
	@ls dist/*.whl

matrix: wheel  ## the wheel on Airflow 2.11, 3.1 and 3.3, each in its own environment; ARGS=3.1 for one of them
	@$(BIN)/python scripts/matrix.py $(ARGS)

test-distributed: wheel  ## Celery workers killed in mid-import, with Redis and PostgreSQL
	@$(BIN)/python -m tests.distributed

bench: setup  ## figures as ratios; writes bench/results.json
	@$(BIN)/python -m bench

constraints: setup  ## compile constraints/ anew from setup.cfg
	@scripts/constraints
	@$(MAKE) --no-print-directory setup

clean:  ## remove everything that make has made
	rm -rf .venv .bootstrap .matrix .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .sandbox .demo
	rm -rf build dist build.log *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

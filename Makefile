# Every target makes what it needs first; a fresh clone can start with any of them.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
export VENV

# Tests start hundreds of children: what one has compiled the next one need not, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

# Three workers fill the two cores that CI has, for each waits for engines a third of its time; a class, or the functions of
# a file, stay on one, with what they share.
WORKERS ?= 3
PYTEST := $(BIN)/pytest

.PHONY: help setup demo test check contracts bench soak generate lock format

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

setup: ## Create .venv with everything pinned (all other targets do this first)
	@tools/bootstrap

demo: setup ## Triage the commits of this repository, with a worker killed half way
	@$(BIN)/perdure demo

test: setup ## Every test, on embedded PostgreSQL 18, on 15, and behind pgbouncer
	@tools/engines
	@$(PYTEST) -n $(WORKERS) --dist loadscope --contracts-table

check: setup ## Everything that needs no engine: format, lint, types, layers, generated files, fast tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/interrogate --quiet src
	@$(BIN)/python tools/generate_sync.py --check
	@$(BIN)/python tools/generate_docs.py --check
	@$(BIN)/python tools/generate_bundle.py --check
	@$(BIN)/python tools/generate_work_vectors.py --check
	@$(PYTEST) -q -n $(WORKERS) -m fast tests/architecture tests/domain tests/golden tests/core tests/sync tests/testing tests/typing

contracts: setup ## Every contract on every backend, ending with the kind x backend table
	@tools/engines
	@$(PYTEST) -q -n $(WORKERS) --dist loadscope --contracts-table tests/contracts

bench: setup ## Measure against a bare INSERT on this machine; prints a table and JSON
	@$(BIN)/python -m bench $(ARGS)

soak: setup ## The full forms of the fault and simulation sweeps; takes its time
	@tools/engines
	@$(PYTEST) -m soak

generate: setup ## Write again what is generated: perdure.sync, schema.sql, the tables in docs
	@$(BIN)/python tools/generate_sync.py
	@$(BIN)/python tools/generate_schema.py
	@$(BIN)/python tools/generate_docs.py
	@$(BIN)/python tools/generate_bundle.py

format: setup ## Let ruff rewrite what it can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# Locks name packages, versions and hashes, never an address: the machine that installs them knows its index.
UV_COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" pyproject.toml

lock: setup ## Pin the newest allowed versions of everything again
	@$(UV_COMPILE) --upgrade --output-file requirements.txt
	@$(UV_COMPILE) --upgrade --all-extras --constraint requirements.txt requirements-dev.in --output-file requirements-dev.txt

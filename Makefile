# Everything that people and CI run. `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
STAMP := $(VENV)/.locked
KIT := PYTHONPATH=tests/cluster $(BIN)/python -m kit
export PYTHONPATH := operator:trainer_image

.PHONY: help demo test test-fast check fix generate lock bench cluster-up cluster-down clean

help: ## List the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The environment: hash-locked, with byte-code, so that no process compiles it again.
$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q "uv==$(UV_VERSION)"
	$(BIN)/uv pip install -q --python $(BIN)/python --compile-bytecode --require-hashes -r requirements/dev.txt
	$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --editable .
	touch $@

demo: $(STAMP) ## Real data and a real small model through to a served answer, in minutes
	$(BIN)/python examples/text-classification/demo.py

# The matrices of the tests are small: a second thread of OpenBLAS costs several times what it brings.
test test-fast: export OPENBLAS_NUM_THREADS = 1

CHECK := $(BIN)/ruff format --check .; $(BIN)/ruff check .; $(BIN)/mypy; \
	$(BIN)/lint-imports --no-cache; $(BIN)/python -m oikyo.api.crd --check

# Most tests leave a processor idle: what the later ones need is built beside them, before they ask.
test: $(STAMP) ## All tests: unit, wire, desktop, and a real cluster that it builds or finds
	nice -n 19 env $(KIT) ahead >$(VENV)/ahead.log 2>&1 & trap "kill -- -$$! || true" EXIT; \
	$(CHECK); \
	$(BIN)/python -m pytest -m "not gpu" --reruns 1 --durations 20 tests/unit tests/wire tests/desktop tests/cluster

test-fast: $(STAMP) ## The unit tests alone
	$(BIN)/python -m pytest -m "not gpu and not slow and not tools" tests/unit

check: $(STAMP) ## Format, lint, types, import contracts, drift of generated files
	$(CHECK)

fix: $(STAMP) ## Repair what can be repaired by a program
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(STAMP) ## Write every generated file: CRDs, their chart copies, API reference
	$(BIN)/python -m oikyo.api.crd --write

LOCK := $(BIN)/uv pip compile -q --universal --generate-hashes --no-annotate --no-header --no-emit-index-url --python-version 3.11
lock: $(STAMP) ## Resolve the dependencies anew into requirements/
	$(LOCK) --upgrade --extra operator --extra trainer --extra cli --group dev pyproject.toml -o requirements/dev.txt
	$(LOCK) -c requirements/dev.txt --extra operator pyproject.toml -o requirements/operator.txt
	$(LOCK) -c requirements/dev.txt --extra trainer --extra deepspeed pyproject.toml -o requirements/trainer.txt
	$(LOCK) -c requirements/trainer.txt --no-deps --extra qlora --extra liger pyproject.toml -o requirements/gpu.txt

bench: $(STAMP) ## The side-by-side benchmarks, one file each
	for file in bench/bench_*.py; do $(BIN)/python $$file; done

cluster-up: $(STAMP) ## A real cluster: KUBECONFIG's when told, kind, or from pinned modules
	$(KIT) up

cluster-down: $(STAMP) ## Stop that cluster and leave nothing behind
	$(KIT) down

clean: ## Remove the environment and caches of this checkout
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis

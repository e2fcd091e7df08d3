# Everything runs in .venv, which the first target that needs it makes from pyproject.toml and constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
TEST_FLAGS ?=

.PHONY: help demo test lint types format check-long coverage bench clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1: \2/p' $(MAKEFILE_LIST)

demo: .venv/installed ## tune the built-in model on the shipped chats, and say where the report is
	@$(BIN)/tunesmith run examples/demo.yaml
	@echo "The report: $(CURDIR)/runs/demo/report.html"

test: lint types .venv/installed ## style, types, layers, and every test that needs no network and no patience
	@$(BIN)/python -m pytest -q -n auto --dist loadfile $(TEST_FLAGS)

lint: .venv/installed ## style and layers
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check . || { echo "make format puts the files named above in order"; exit 1; }
	@$(BIN)/lint-imports --no-logo > .venv/layers.txt || { cat .venv/layers.txt; exit 1; }

types: .venv/installed ## types, strictly
	@$(BIN)/mypy

format: .venv/installed ## put the files in order
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .

check-long: .venv/extras ## the tests that `make test` leaves out: slow ones, those that fetch the built-in model, benchmark suites
	@$(BIN)/python -m pytest -q -m "slow or network" $(TEST_FLAGS)

coverage: .venv/installed ## the tests once more, and which lines none of them reaches
	@$(BIN)/python -m pytest -q -n auto --dist loadfile --cov --cov-report=term:skip-covered $(TEST_FLAGS)

bench: .venv/extras ## measure; every script writes benchmarks/results/<its name>.json
	@for script in $(filter-out $(addprefix benchmarks/,abreast.py cells.py keeping.py),$(wildcard benchmarks/*.py)); do echo "$$script"; $(BIN)/python "$$script" || exit 1; done

clean: ## remove the environment and what the tools keep
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name it with: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Setting up .venv: once, some minutes, most of them for torch"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

.venv/extras: .venv/installed
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev,hub,parquet,bench]'
	@touch $@

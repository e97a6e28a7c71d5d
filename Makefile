# Everything a contributor runs. Each target makes `.venv` first; that costs nothing when it is up to date.

PYTHON ?= python3
BIN := .venv/bin
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help environment demo test check format bench reliability docs constraints clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

environment: ## .venv with the package, all extras and the tools
	@$(PYTHON) tools/environment.py

demo: environment ## set everything up and run the example, with a crash in the middle
	$(BIN)/codomyrmex demo

test: environment ## all tests, in random order
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: environment ## format, lint, types, layers, sizes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/size_ratchet.py

format: environment ## put the code into its one form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: environment ## every benchmark, each against its peers in the same run
	@broken=0; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || broken=1; done; exit $$broken

reliability: environment ## the long forms of the crash and fault tests
	$(BIN)/python -m pytest -m reliability --timeout 3600 $(PYTEST_ARGS)

docs: environment ## write the generated parts of the documents again
	$(BIN)/python tools/generated_docs.py

constraints: environment ## pin what .venv holds now
	$(BIN)/python tools/pin.py

clean: ## remove .venv and every cache
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build

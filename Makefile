# make run    the default study, from nothing to the report
# make test   lint, types, and all tests but the slow ones
.PHONY: setup run test test-all lint
.DEFAULT_GOAL := run

BIN := .venv/bin
OUT ?= runs/desk

setup:
	@scripts/setup

run: setup
	$(BIN)/craik run pipeline.toml --out $(OUT)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# One thread per process: two test processes on two cores, each with JAX. Files in the order
# of tests/conftest.py: the long ones have few tests, and xdist would begin them last.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder

test-all: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

PYTHON ?= python3
BIN := .venv/bin
# One more than cores, at most 4: tests often wait for processes, servers and disks.
WORKERS := $(shell $(PYTHON) -c "import os; print(min(4, (os.cpu_count() or 1) + 1))")

# Tests start programs: what one of them has compiled the others use.
unexport PYTHONDONTWRITEBYTECODE

# Of a campaign: how long it goes on, and what it tries; its counts are printed with the seed.
MINUTES ?= 10
SEED ?= $(shell $(PYTHON) -c "import random; print(random.randrange(10**6))")

.PHONY: demo test test-fast test-slow campaign lint bench bench-quick bench-gpu

demo: .venv/.stamp
	$(BIN)/python pipelines/demo.py

test: .venv/.stamp
	$(BIN)/pytest -n $(WORKERS) -m "not slow and not campaign"

test-fast: .venv/.stamp
	$(BIN)/pytest -n $(WORKERS) -m "not process and not slow and not campaign"

test-slow: .venv/.stamp
	$(BIN)/pytest -n $(WORKERS) -m slow

campaign: .venv/.stamp
	$(BIN)/pytest tests/campaign -m campaign --minutes $(MINUTES) --seed $(SEED)

lint: .venv/.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: .venv/.stamp
	$(BIN)/python -m tests.benchmarks.run

bench-quick: .venv/.stamp
	$(BIN)/python -m tests.benchmarks.run --quick

bench-gpu: .venv/.stamp
	$(BIN)/python -m tests.benchmarks.gpu

# The virtual environment is made once, and made again when the project's requirements change.
.venv/.stamp: pyproject.toml
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	touch $@

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint bench

demo: .venv/.stamp
	$(BIN)/python pipelines/demo.py

test: .venv/.stamp
	$(BIN)/pytest -n auto --maxprocesses 4 -m "not slow"

test-slow: .venv/.stamp
	$(BIN)/pytest -n auto --maxprocesses 4 -m slow

lint: .venv/.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: .venv/.stamp
	$(BIN)/python -m tests.benchmarks.run

# The virtual environment is made once, and made again when the project's requirements change.
.venv/.stamp: pyproject.toml
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --editable '.[test,lint]'
	touch $@

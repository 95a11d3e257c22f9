# Two commands on a fresh machine: `make demo` and `make test`. Each sets up its own .venv; nothing is done by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint clean

demo: $(VENV)/.demo
	$(BIN)/python -m stlm_hub.demo demo

test: $(VENV)/.dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m slow --timeout 1800

lint: $(VENV)/.dev
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .
	$(BIN)/mypy

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

# The samples need scikit-image, which is all that the demo wants beyond inference.
$(VENV)/.demo: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet -e . "scikit-image>=0.25"
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) demo runs

# Two commands set everything up on a machine that has Python (3.11 or later), make and a package index.
#   make demo   install, answer a question about simulated galaxies, say where the report lies
#   make test   install what the tests need, and run them
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-real test-browser test-scale lint docs fuzz clean

$(BIN)/gsnn: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt torch
	$(PIP) --constraint constraints.txt --editable .
	touch $(BIN)/gsnn

$(VENV)/tested: $(BIN)/gsnn
	$(PIP) --constraint constraints.txt --editable '.[test]'
	touch $(VENV)/tested

demo: $(BIN)/gsnn
	$(BIN)/gsnn run morphology

test: $(VENV)/tested
	$(BIN)/python -m pytest -n 2 -m "not real and not browser and not slow and not scale and not documents"

test-real: $(VENV)/tested
	$(BIN)/python -m pytest -n 2 -m "real or slow"

test-browser: $(VENV)/tested
	$(BIN)/python -m pytest -m browser

test-scale: $(VENV)/tested
	$(BIN)/python -m pytest -m scale

lint: $(VENV)/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(VENV)/tested
	$(BIN)/python -m pytest tests/documents

fuzz: $(VENV)/tested
	$(BIN)/python benchmarks/fuzz.py --seconds 600

clean:
	rm -rf $(VENV) runs .pytest_cache .ruff_cache build

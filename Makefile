# On a machine with only Python >= 3.11 and make: `make train`, `make test`. `make help` lists the rest.

PYTHON  ?= python3
ARGS    ?=
WORKERS ?= 2

comma  := ,
VENV   := .venv
BIN    := $(VENV)/bin
GPU    := $(shell nvidia-smi -L 2>/dev/null | grep -c '^GPU')
EXTRAS ?= dev$(if $(filter-out 0,$(GPU)),$(comma)cuda)
STAMP  := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install train test thorough slow lint docs pictures release clean

help:
	@echo "make train [ARGS=...]  train an agent, e.g. make train ARGS=\"--env SafetyPointGoal2-v0\""
	@echo "make test [ARGS=...]   run the tests, e.g. make test ARGS=\"tests/env/test_vector.py\" (WORKERS=$(WORKERS) processes)"
	@echo "make thorough          run these and the thorough tests, as continuous integration does"
	@echo "make slow              run the tests that take long; it ends with the slowest and with the time of all"
	@echo "make lint              ruff check, ruff format --check, pyright"
	@echo "make docs              write the generated parts of docs/ and build the site into build/site"
	@echo "make pictures          draw the environments for docs/ anew"
	@echo "make release           build sdist and wheel into dist and check both; CONTRIBUTING.md has the other steps"
	@echo "make install           only make $(VENV) and install the package with the extras $(EXTRAS)"
	@echo "make clean             remove $(VENV), caches and builds; runs/ stays"
	@echo "Variables: PYTHON=$(PYTHON) (3.11 or newer), EXTRAS=$(EXTRAS)"

install: $(STAMP)

# The package is installed editable, so only a changed pyproject.toml asks for a new installation.
$(STAMP): pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "mjx_safety needs Python 3.11 or newer, and there is no $(PYTHON): say which Python to use with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mjx_safety needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1): say which Python to use with make PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@echo "Installing mjx_safety with the extras $(EXTRAS) into $(VENV); the first time takes some minutes."
	@$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	@touch $@

train: $(STAMP)
	@$(BIN)/python -m mjx_safety.train $(ARGS)

test: $(STAMP)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

thorough: $(STAMP)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not gpu" $(ARGS)

slow: $(STAMP)
	@$(BIN)/python -m pytest -m slow --durations=20 --durations-min=10 $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

docs: $(STAMP)
	@$(BIN)/python docs/generate.py --no-pictures
	@$(BIN)/zensical build --strict
	@echo "The documentation is in build/site; with its search: $(PYTHON) -m http.server --directory build/site"

pictures: $(STAMP)
	@$(BIN)/python docs/generate.py

release: $(STAMP)
	@rm -rf dist
	@$(BIN)/python -m build --quiet --outdir dist .
	@$(BIN)/twine check --strict dist/*
	@$(BIN)/check-wheel-contents dist/*.whl
	@$(BIN)/pyright --verifytypes mjx_safety --ignoreexternal | grep "Type completeness"

clean:
	rm -rf $(VENV) .cache .jax_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

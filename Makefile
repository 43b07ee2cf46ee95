# `make demo` and `make test` need git, make and Python >= 3.11, nothing else.
# Another interpreter: make demo PYTHON=python3.12

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: help demo ci test test-all networks surrogates lint docs dist benchmark benchmark-gpu aot accuracy clean
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(VENV)/.installed-test ## simulate a real sentence, compare with closed forms, draw figures
	$(BIN)/rqf-jax run configs/demo.toml --force

ci: lint test docs ## everything that continuous integration runs

test: $(VENV)/.installed-test ## the default tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-all: $(VENV)/.installed-test ## the default and the slow tests, compiled as for users
	XLA_FLAGS= $(BIN)/python -m pytest -n 2 --dist loadfile -m "not gpu"

networks: $(VENV)/.installed-test $(VENV)/.installed-models ## untrained networks of transformers beside theory
	$(BIN)/python -m pytest -m "" tests/theory/test_untrained_networks.py

surrogates: $(VENV)/.installed-test ## learned forecasts and laws of two systems, with errors over seeds
	$(BIN)/python benchmarks/surrogates.py --figure docs/learned_dynamics.png
	$(BIN)/python benchmarks/surrogates.py --system wells --updates 0.3

lint: $(VENV)/.installed-test $(VENV)/.installed-dev ## style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright

docs: $(VENV)/.installed-docs ## the documentation site, in build/docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

dist: $(VENV)/.installed-release ## sdist and wheel in dist/, checked, and tried in new environments
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python scripts/try_release.py dist/* --constraints constraints.txt

benchmark: $(VENV)/.installed-test ## speed beside NumPy, a hand-written scan and plain diffrax
	$(BIN)/python benchmarks/benchmark.py

benchmark-gpu: $(VENV)/.installed-test ## speed on a GPU: fused kernels, scan, diffrax (needs jax[cuda13])
	$(BIN)/python benchmarks/gpu.py --json benchmarks/gpu.json

aot: $(VENV)/.installed-test ## registers and spills of GPU kernels, without a GPU (needs ptxas)
	$(BIN)/python benchmarks/aot.py

accuracy: $(VENV)/.installed-test ## weak error of the solvers
	$(BIN)/python benchmarks/accuracy.py

clean: ## remove the environment and the caches; keep runs/
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One stamp per extra, so that a second `make` starts at once and a changed pin installs again.
$(VENV)/.installed-%: pyproject.toml constraints.txt
	@if [ ! -x $(BIN)/python ]; then \
		if [ -z "$(PYTHON)" ] || \
		   ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "rqf_jax needs Python >= 3.11$(if $(PYTHON),; $(PYTHON) is not,). Name one: make PYTHON=/path/to/python3.12" >&2; \
			exit 1; \
		fi; \
		$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; \
	fi
	@echo "Installing rqf_jax[$*] into $(VENV), once (a minute or two) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@

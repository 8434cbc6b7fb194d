# make demo: sets up .venv and runs the synthetic study.   make test: sets up .venv and runs the tests.
# Needs make and Python 3.10-3.12 with venv. No root. PYTHON=python3.12 chooses another interpreter.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data
STAMP := $(VENV)/.installed

export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: setup demo test test-all lint audit site bench bench-phantom clean help

help:
	@sed -n '1,2s/^# //p' Makefile; echo "targets: setup demo test test-all lint audit site bench bench-phantom clean"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 12) else f"stainda needs Python 3.10-3.12, {sys.executable} is {v[0]}.{v[1]}; try make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@# compiled once: where Python may not write bytecode (containers), every process would compile torch again
	VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --compile-bytecode --constraint constraints.txt --editable '.[all,test,docs]'
	$(BIN)/python -m compileall -q stainda
	@touch $@

demo: setup
	$(BIN)/stainda run studies/quickstart.yaml

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-all: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile
	$(BIN)/python tests/mutation/run.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# status 1: known vulnerabilities; 3: PyPI did not answer for every package, so that nothing is known
audit: setup
	$(BIN)/uv tool install --quiet pip-audit
	$(BIN)/python tests/audit.py --program "$$($(BIN)/uv tool dir --bin)/pip-audit"

site: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open site/index.html"

bench: setup
	$(BIN)/python benchmarks/speed_all.py --out runs/bench

bench-phantom: setup
	$(BIN)/stainda phantom runs/bench/cohort --quiet
	$(BIN)/python benchmarks/phantom_domain_gap.py --cohort runs/bench/cohort
	$(BIN)/python benchmarks/phantom_memory.py --out runs/bench/large
	if [ -d "$(DATA)" ]; then $(BIN)/python benchmarks/phantom_beside_real.py --data $(DATA) --out runs/bench/beside; fi

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache

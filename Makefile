# Targets, each with its line of help behind ##; all but help and lock first install what is missing, into .venv.

TORCH ?= 2.13.0
MMCV := onedl-mmcv==2.3.6
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# Only the headless OpenCV is installed; pip's word on that is expected.
PIP := $(BIN)/pip --disable-pip-version-check install -q --no-warn-script-location

export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help repro quick test test-fast smoke ui studies speed lint docs lock install
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:  ## this text
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20
	@echo '  ./kd --help       the verbs: list, check, estimate, run, status, report, verify, compare, results, ui, studies'

repro: install  ## every result of the grid in params.yaml; ARGS="--executor slurm", and more: ./kd run --help
	@./kd run $(ARGS)

quick: install  ## a small grid in minutes: one pair, the baseline and two methods, three seeds
	@./kd quick

# A file stays in one process, so that what its tests share is made once; the longest begin.
test: install  ## all tests
	@python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-fast: install  ## the tests that take seconds
	@python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not slow"

smoke: install  ## every pair with every method, two iterations each, in one table
	@./kd matrix

ui: install  ## MLflow's pages on the runs
	@./kd ui

studies: install  ## Optuna's pages on the studies
	@./kd studies

speed: install  ## time and memory of every method's loss against its reference implementation
	@python -m tools.speed --json reports/measurements/speed.json && OMP_NUM_THREADS=1 python -m tools.step_cost --json reports/measurements/step_cost.json

lint: install  ## ruff, mypy and the import rules
	@ruff check . && ruff format --check . && mypy && lint-imports

docs: install  ## the pages of docs/, into work/site/
	@command -v mkdocs >/dev/null || { echo "error: mkdocs is not installed; .venv/bin/pip install mkdocs-material" >&2; exit 2; }
	@NO_MKDOCS_2_WARNING=1 mkdocs build --strict

install: .venv/.complete  ## everything of requirements.lock, into .venv

.venv/.complete: requirements.lock Makefile
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10, 3.11 or 3.12 found; install one, or name it: make PYTHON=/path/to/python" >&2; exit 2; }
	@command -v c++ >/dev/null || { echo "error: no C++ compiler found (c++), and onedl-mmcv is built from source; install one (Debian, Ubuntu: apt install g++)" >&2; exit 2; }
	@$(PYTHON) -c 'import sysconfig, os, sys; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' \
		|| { echo "error: Python.h is missing for $(PYTHON); install its headers (Debian, Ubuntu: apt install python3-dev)" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "error: $(PYTHON) has no venv module; install it (Debian, Ubuntu: apt install python3-venv)" >&2; exit 2; }
	@echo "[install 1/4] .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@echo "[install 2/4] torch $(TORCH)"
	@$(PIP) "torch==$(TORCH)" -c requirements.lock
	@echo "[install 3/4] packages of requirements.lock (2 to 3 minutes)"
	@$(PIP) --no-deps -r requirements.lock
	@echo "[install 4/4] $(MMCV), built from source (about 10 minutes on 2 cores; nothing where pip has kept the wheel)"
	@MMCV_WITH_OPS=1 $(PIP) --no-deps --no-build-isolation $(MMCV)
	@# pip keeps built wheels by source, not by torch: one from another torch does not load, and is built anew.
	@python -c 'import mmcv.ops' 2>/dev/null || MMCV_WITH_OPS=1 $(PIP) --no-deps --no-build-isolation --no-cache-dir --force-reinstall $(MMCV)
	@python -c 'import mmcv.ops' || { echo "error: $(MMCV) was built but does not load; see the lines above" >&2; exit 2; }
	@touch $@

# torch and what it pulls in (CUDA) are chosen by the line above, onedl-mmcv by the one below it.
lock:  ## requirements.lock from pyproject.toml, with uv
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.10 --no-emit-index-url --no-annotate --no-header -q \
		| grep -vE "^(torch|triton|cuda-[a-z]+|nvidia-[^m][a-z0-9-]*|onedl-mmcv|opencv-python)==" > requirements.lock

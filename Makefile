# Every target sets up what it needs: a stock Python 3.11 or newer with venv and pip, and make, are enough.

VENV := .venv
PYTHON := $(VENV)/bin/python
UV := $(VENV)/bin/uv
STAMP := $(VENV)/.embedrl-stamp
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11

export TOKENIZERS_PARALLELISM := false
export UV_HTTP_TIMEOUT ?= 300

PYTEST := HF_HUB_OFFLINE=1 $(PYTHON) -m pytest
TEST_PROCESSES ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-all check nano api notebooks strip screenshots bench engines attack lock

help: ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with the locked versions of everything, and embedrl in it

demo: setup ## show the whole method at work on real media files: writes demo/report.html
	HF_HUB_OFFLINE=1 $(VENV)/bin/embedrl quickstart

test: setup ## run the tests that need no GPU and no patience, in TEST_PROCESSES processes of one thread
	OMP_NUM_THREADS=1 $(PYTEST) -n $(TEST_PROCESSES) --dist loadfile -m "not gpu and not slow"

test-slow: setup ## run the others: kills, several processes, Ray, memory of larger models
	$(PYTEST) -m "not gpu and slow"

test-all: test test-slow ## run all tests that need no GPU

check: setup ## run what a change must pass: format, lint, types, all tests
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ty check --python $(VENV) src
	$(MAKE) test-all

nano: setup ## train the nano models again, from nothing
	HF_HUB_OFFLINE=1 $(PYTHON) -m embedrl.pipelines.build_nano
	HF_HUB_OFFLINE=1 $(VENV)/bin/embedrl train reasoner recipes/nano/reasoner.toml
	cp -R runs/nano/reasoner/model/. src/embedrl/nano/weights/reasoner/

bench: setup ## measure speed: each figure beside the alternative it beats
	@for script in bench/[!_]*.py; do echo "== $$script"; HF_HUB_OFFLINE=1 $(PYTHON) "$$script" || exit 1; done

api: setup ## write docs/api.md anew from the docstrings
	$(PYTHON) docs/api.py > docs/api.md

engines: setup ## run the nano models on a real vLLM for CPUs, set up in .engines, and compare
	HF_HUB_OFFLINE=1 $(PYTHON) -m tests.engines

strip: setup ## draw docs/images/strip.png anew, from the shipped models
	$(PYTHON) docs/strip.py

screenshots: setup ## draw search.png and moments.png of docs/images anew, with Chromium
	HF_HUB_OFFLINE=1 $(PYTHON) -m docs.screenshots

notebooks: setup ## write docs/notebooks anew from the tutorials
	$(PYTHON) docs/notebooks.py

attack: setup ## try on our own server and index, on this machine, what strangers may try
	HF_HUB_OFFLINE=1 $(PYTHON) -m tests.attack
	HF_HUB_OFFLINE=1 $(PYTHON) -W ignore -m tests.attack.indexed_files

lock: setup ## bring requirements.lock up to date with pyproject.toml (keeps versions that still fit)
	$(UV) pip compile pyproject.toml --extra dev --extra train --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --quiet --output-file requirements.lock

# Each step can be repeated, and the stamp comes last: a killed set-up is made good by the next one.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { \
		for candidate in $(PYTHONS); do \
			"$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; candidate=; \
		done; \
		test -n "$$candidate" || { echo "no Python 3.11 or newer with venv and pip found (tried $(PYTHONS)): install one" >&2; exit 1; }; \
		echo "making $(VENV) with $$("$$candidate" --version)"; \
		"$$candidate" -m venv $(VENV); }
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.lock
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $(VENV)/uv.lock
	$(UV) pip install --quiet --compile-bytecode --python $(PYTHON) --require-hashes --requirement requirements.lock
	$(UV) pip install --quiet --python $(PYTHON) --no-deps --no-build-isolation --editable .
	@touch $@

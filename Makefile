# make run    the server with the example and a conversation (ONCE=1: ends after it)
# make test   linters, types, import contracts, all tests
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

comma := ,
VENV ?= .venv
PY := $(VENV)/bin/python
SUITABLE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)
PYTEST_ARGS ?=
# Waiting, not computing, is most of what the tests do: two workers pay off on two cores.
WORKERS ?= auto

.PHONY: help run test lint types imports unit kafka bench fmt clean install

help:
	@sed -n 's/^# //p' Makefile

$(VENV)/bin/python:
	@[ -n "$(PYTHON)" ] && $(PYTHON) -c '$(SUITABLE)' || \
		{ echo "threadlog needs Python 3.11, 3.12 or 3.13, none was found. Name one: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# uv when it is there (it is faster), else pip; either reads its own settings of the environment.
define install_into_venv
	@echo "installing threadlog[$(1)] into $(VENV) …"
	@if command -v uv >/dev/null; then uv pip install --quiet --compile-bytecode --python $(PY) -e '.[$(1)]'; \
	else $(PY) -m pip install --quiet --disable-pip-version-check -e '.[$(1)]'; fi
	@$(PY) -m compileall -q engine projections api deploy
	@touch $@
endef

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	$(call install_into_venv,example)

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(call install_into_venv,example$(comma)dev)

install: $(VENV)/.dev

run: $(VENV)/.run
	@ONCE=$${ONCE:-} $(PY) -m deploy.examples.demo

test: lint unit

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

unit: $(VENV)/.dev
	@$(PY) -c 'from deploy.kafka import available; from deploy.kafka.jars import version; \
		can, why = available(lambda line: print(line, flush=True)); \
		print(f"Kafka tests: run against Apache Kafka {version()}" if can else f"Kafka tests: skipped, {why}", flush=True)'
	$(PY) -m pytest -n $(WORKERS) --dist loadgroup $(PYTEST_ARGS)

# Apache Kafka on loopback, until Ctrl-C: make kafka, then KAFKA_BOOTSTRAP_SERVERS=… threadlog up
kafka: $(VENV)/.dev
	@$(PY) -m deploy.kafka

$(VENV)/.bench: pyproject.toml | $(VENV)/bin/python
	$(call install_into_venv,example$(comma)dev$(comma)bench)

# Prints a table, and writes docs/performance/figures.json and its charts. Peers: see tests/benchmarks/servers.py.
bench: $(VENV)/.bench
	@$(PY) -m tests.benchmarks --json docs/performance/figures.json $(BENCH_ARGS)
	@$(PY) -m tests.benchmarks.plots docs/performance/figures.json docs/performance/figures.svg

fmt: $(VENV)/.dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) .threadlog .kafka *.egg-info build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

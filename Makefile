# Each target sets up what it needs; Python 3.11+ and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready

# Tests of a whole Carpool, or of a command or a server, in processes of their own, and those that attack it at every
# point and with inputs by chance.
WHOLE := tests/acceptance tests/chaos/test_crash_points.py tests/commands/test_cli.py tests/commands/test_encodings.py \
	tests/commands/test_logging.py tests/commands/test_surroundings.py tests/gateway/test_outages.py tests/model \
	tests/papers/test_examples.py tests/papers/test_running.py tests/pipeline/test_outages_of_the_database.py \
	tests/pipeline/test_side_by_side.py tests/pipeline/inbox/test_lies.py tests/processes tests/producer/test_sentinels.py \
	tests/tasks/test_brokers.py \
	$(wildcard tests/pipeline/test_fuzz*.py tests/pipeline/*/test_fuzz*.py)

# Tests that show what a pooler would break: every statement of the stores, and the way of a request; but for those that
# set options of a session in the URL, which PgBouncer refuses.
POOLED := tests/store tests/pipeline/test_the_way_of_a_request.py tests/pipeline/test_canceling_what_was_sent.py \
	tests/pipeline/batching tests/pipeline/collection/test_collector.py tests/pipeline/test_side_by_side.py

# The script of rabbitmq-server that starts it as whoever calls it.
RABBITMQ ?= /usr/lib/rabbitmq/bin/rabbitmq-server

.DEFAULT_GOAL := help
.PHONY: help demo test acceptance coverage check browser chaos pgbouncer proxies rabbitmq programs upgrade bench bench-million bench-growth diagrams lock prometheus clean setup

help:  ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## Make the virtual environment with all tools (every target makes what it needs)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Carpool needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	@echo "Setting up $(VENV) (a minute, once) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip  # a new pip installs in two thirds of the time

# What running takes, and what developing takes besides.
$(RUNS): pyproject.toml | $(VENV)/bin/python
	@$(BIN)/python -m pip install --quiet --editable '.[worker]'
	@touch $@

$(READY): pyproject.toml config/requirements-dev.txt | $(VENV)/bin/python
	@echo "Installing the tools for development …"
ifdef LOCKED
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement config/requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
else
	@$(BIN)/python -m pip install --quiet --editable '.[worker,dev]'
endif
	@touch $(RUNS) $@

# Every package in one version, with hashes, for each platform and Python; no registry's name is in them.
RESOLVE := uv pip compile pyproject.toml - --universal --python-version 3.11 --generate-hashes --no-annotate --quiet \
	--custom-compile-command 'make lock'

lock: | $(VENV)/bin/python  ## Resolve the locked requirements of the image and of CI anew (fetches uv)
	@$(BIN)/python -m pip install --quiet uv
	@echo 'hatchling' | $(BIN)/$(RESOLVE) --extra worker --extra otel --output-file config/requirements.txt
	@printf 'hatchling\neditables\n' | $(BIN)/$(RESOLVE) --all-extras --output-file config/requirements-dev.txt

demo: $(RUNS)  ## See it work: two models, three clients, a table of what it saved
	@$(BIN)/carpool demo

test: $(READY)  ## Run the tests, against a real Valkey, SQLite and PostgreSQL from wheels
	@$(BIN)/python -m pytest -n 4 --dist worksteal $(WHOLE:%=--ignore=%)

acceptance: $(READY)  ## Run a whole Carpool: what the docs say, crashes at every point, restarts (minutes)
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(WHOLE)

coverage: $(READY)  ## Run every test and measure what it runs of each room, in every process, against the room's floor
	@rm -rf .coverage
	@$(BIN)/coverage run -m pytest -n 4 --dist worksteal --timeout 480
	@$(BIN)/coverage combine --quiet
	@$(BIN)/python -m tests.coverage_floors

check: $(READY)  ## Everything static: ruff (lint, format), mypy strict, import-linter, sizes and names
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m tests.structure

chaos: $(READY)  ## Attack the promises with real crashes and outages, and count what became of them (CHAOS='--help')
	@$(BIN)/python -m tests.chaos $(CHAOS)

pgbouncer: $(READY)  ## Run tests of the database behind a real PgBouncer in transaction mode (Debian's package)
	@PATH="$$PATH:/usr/sbin" command -v pgbouncer > /dev/null || \
		{ echo "PgBouncer is not installed: apt-get install pgbouncer"; exit 1; }
	@CARPOOL_TESTS_BEHIND=pgbouncer CARPOOL_DATABASE_POOLER=transaction \
		$(BIN)/python -m pytest -n 2 -k "not sqlite and not test_timeouts and not test_usage_roll_up" $(POOLED)

rabbitmq: $(READY)  ## Run a whole Carpool with a real RabbitMQ as its broker (Debian's package; RABBITMQ=… if it is elsewhere)
	@test -x "$(RABBITMQ)" && command -v epmd > /dev/null || \
		{ echo "RabbitMQ is not at $(RABBITMQ), or its epmd not on the PATH: apt-get install rabbitmq-server"; exit 1; }
	@CARPOOL_TESTS_RABBITMQ="$(RABBITMQ)" $(BIN)/python -m pytest -W ignore::ResourceWarning tests/rabbitmq  # py-amqp leaves sockets

prometheus: $(READY)  ## Evaluate the dashboard's panels and test the alert rules in a real Prometheus (Debian's package)
	@command -v prometheus > /dev/null && command -v promtool > /dev/null || \
		{ echo "Prometheus is not installed: apt-get install prometheus"; exit 1; }
	@CARPOOL_TESTS_PROMETHEUS=1 $(BIN)/python -m pytest tests/prometheus tests/metrics -k "panel or money or alert"

proxies: $(READY)  ## Run a gateway behind real nginx, Caddy and HAProxy, as docs/gateway.md configures them (Debian's packages)
	@for proxy in nginx caddy haproxy; do PATH="$$PATH:/usr/sbin" command -v $$proxy > /dev/null || \
		{ echo "$$proxy is not installed: apt-get install nginx-light caddy haproxy"; exit 1; }; done
	@CARPOOL_TESTS_PROXIES=1 $(BIN)/python -m pytest tests/proxies

CHROMIUM ?= $(or $(shell command -v chromium),$(shell command -v chromium-browser))

browser: $(READY)  ## Look at the console in a real Chromium: every page, each action, keys alone, axe (Debian's package)
	@test -x "$(CHROMIUM)" || { echo "Chromium is not installed: apt-get install chromium (or say CHROMIUM=…)"; exit 1; }
	@CARPOOL_TESTS_CHROMIUM="$(CHROMIUM)" $(BIN)/python -m pytest --timeout 90 --show-capture=no tests/browser

programs: $(READY)  ## Run other people's programs, Python's and Node's, unchanged through the gateway (fetches their packages)
	@$(BIN)/python -m tests.programs.environments
	@CARPOOL_TESTS_PROGRAMS=1 $(BIN)/python -m pytest tests/programs

upgrade: $(READY)  ## Run the worker of the first schema beside today's, on one database (needs this repository's history)
	@CARPOOL_TESTS_UPGRADE=1 $(BIN)/python -m pytest tests/upgrade

bench: $(READY)  ## Measure each stage and the whole way, against the bare cost of the same work (BENCH='--help')
	@$(BIN)/python -m tests.bench $(BENCH)

bench-million: $(READY)  ## The whole way with a million requests, beside that with a hundred thousand
	@$(BIN)/python -m tests.bench million

bench-growth: $(READY)  ## What the next requests cost on none, one and five million finished ones (50 GB of disk)
	@$(BIN)/python -m tests.bench growth

diagrams: $(READY)  ## Write the diagrams of the states into docs/architecture.md again
	@$(BIN)/python -m tests.papers.diagrams

clean:  ## Remove the virtual environment, caches and embedded data
	rm -rf $(VENV) .carpool .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .coverage dist build
	find producer worker tests -name __pycache__ -type d -prune -exec rm -rf {} +

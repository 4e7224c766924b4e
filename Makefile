# Every target makes the .venv it needs. A bare `make` lists the targets.

PYTHON ?= python3
PORT ?= 8080

VENV := .venv
BIN := $(VENV)/bin
MIGRATIONS = $(wildcard shared/ledger/migrations/*.sql)
# Each migration runs in one transaction under one lock, and the runner sets its time-outs: guards within it and
# CONCURRENTLY have no place there. Counts of seats fit an integer.
SQUAWK := $(BIN)/squawk --assume-in-transaction --pg-version=15.0 --reporter=gcc --exclude=prefer-robust-stmts
SQUAWK := $(SQUAWK),require-concurrent-index-creation,require-lock-timeout,require-statement-timeout,prefer-bigint-over-int

.DEFAULT_GOAL := help
REPLICAS ?= 1
MINUTES ?= 30
export REPLICAS
.PHONY: help run demo stack test test-chaos check histories paused-reapers faults soak mutants abuse audit-dependencies bench bench-full bench-facts bench-first bench-data bench-scale bench-networks flames format lock clean env env-dev

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: env ## Start everything in one process on PORT (8080), with its own Postgres and Valkey
	@SEATKEEPER_PARENT_PID=$$PPID PORT=$(PORT) exec $(BIN)/python -m services.standalone

demo: env ## Show the platform at work, end to end, and leave nothing behind (STACK=1: as separate processes)
	@SEATKEEPER_PARENT_PID=$$PPID exec $(BIN)/python -m services.standalone.$(if $(STACK),stack --story,demo)

stack: env ## Start each service as REPLICAS (1) processes on PORT (8080), with its own Postgres, Valkey and RabbitMQ
	@SEATKEEPER_PARENT_PID=$$PPID PORT=$(PORT) exec $(BIN)/python -m services.standalone.stack

test: check ## Run all that CI runs: the checks, then every test on real servers
	@$(BIN)/python -m pytest tests --ignore=tests/unit --ignore=tests/faults --numprocesses=3 --dist=loadfile --durations=15
	@$(BIN)/python -m pytest tests/faults

check: env-dev ## Run format, lint, security lint, types, import rules, migrations and unit tests (before each commit)
	@$(BIN)/ruff format --check --quiet . || { echo 'seatkeeper: run `make format`' >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/bandit -q -r -ll shared services client/src
	@$(BIN)/python -m mypy --no-error-summary
	@$(BIN)/python -m mypy --no-error-summary client/examples
	@PYTHONPATH=client/src $(BIN)/python -c 'from importlinter.cli import lint_imports_command as lint; lint()' --no-logo > build/imports.txt 2>&1 \
		|| { cat build/imports.txt >&2; exit 1; }
	@$(if $(MIGRATIONS),$(SQUAWK) $(MIGRATIONS))
	@$(BIN)/python -m pytest tests/unit --numprocesses=2 --dist=loadfile

test-chaos: env-dev ## Run the client's tests against a server that breaks calls on purpose (a minute)
	@CHAOS=1 exec $(BIN)/python -m pytest tests/client/test_c*.py tests/client/test_offline.py tests/client/test_examples.py \
		--numprocesses=2 --dist=load

histories: env-dev ## Play 1,000 lives of licenses and a year of 2,000 devices (some 5 minutes)
	@HISTORIES=1000 FLEET=2000 exec $(BIN)/python -m pytest -s tests/histories

paused-reapers: env-dev ## Stop and resume a reaper 50 times while its candidates are heard (a minute)
	@ROUNDS=50 exec $(BIN)/python -m pytest tests/integration/test_reaper_paused.py

faults: env-dev ## Break everything once under load and judge what happened by the invariants (some 2 minutes)
	@exec $(BIN)/python -m tests.faults

soak: env-dev ## The same in shuffled rounds for MINUTES (30), with Sentinel, Redis Cluster and a standby of Postgres
	@exec $(BIN)/python -m tests.faults --minutes $(MINUTES)

mutants: env-dev ## Plant systems that cheat and see that each is caught (some 8 minutes)
	@exec $(BIN)/python -m tests.mutants

abuse: env-dev ## Attack every operation, document and limit as often as it should be (some minutes)
	@ABUSE=1 exec $(BIN)/python -m pytest tests/abuse

audit-dependencies: env-dev ## Look up known vulnerabilities of what is locked, where the registry tells of them
	@exec $(BIN)/pip-audit --strict --disable-pip --no-deps -r requirements.lock

bench: env-dev ## Measure everything on this machine: a table, build/bench.json and build/bench.html (some 12 minutes)
	@exec $(BIN)/python -m tests.bench

bench-full: env-dev ## The same for longer, with ten million devices
	@exec $(BIN)/python -m tests.bench --full

bench-facts: env-dev ## Send a minute of facts through RabbitMQ, with each trouble (some 6 minutes)
	@exec $(BIN)/python -m tests.bench.facts

bench-data: env-dev ## Make a million devices, and ten thousand, to measure on (half a minute; kept in build)
	@exec $(BIN)/python -m tests.bench.data

bench-scale: env-dev ## Compare a million devices with ten thousand (some 4 minutes)
	@exec $(BIN)/python -m tests.bench --only scale

bench-first: env-dev ## Hear 100,000 devices for the first time after Redis was emptied (a minute)
	@exec $(BIN)/python -m tests.bench.first_heartbeats

bench-networks: env-dev ## Activate over Wi-Fi, 4G and weak 3G, without the client's retries and with them (some 4 minutes)
	@PYTHONPATH=client/src exec $(BIN)/python -m tests.bench.networks

flames: env-dev ## Record a flame graph of each hot path, into build/flames (a minute)
	@exec $(BIN)/python -m tests.bench.flames

format: env-dev ## Format the code and mend what the linter can
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --quiet --fix .

lock: ## Resolve requirements*.in into requirements*.lock
	@$(call check-python)
	@test -x build/uv/bin/uv || { $(PYTHON) -m venv --clear build/uv && build/uv/bin/pip $(PIP_QUIET) install uv; }
	@$(UV_COMPILE) requirements.in -o requirements.lock
	@$(UV_COMPILE) requirements-dev.in -c requirements.lock -o requirements-dev.lock

clean: ## Remove .venv, caches and what the standalone keeps
	@rm -rf $(VENV) build .run .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# -- the environment ---------------------------------------------------------------------------------------------
# A copy of the lock inside .venv says what is installed. Without any copy the .venv is half made, and made anew.

PIP_QUIET := --quiet --disable-pip-version-check --no-input
UV_COMPILE := build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header --only-binary :all:

define check-python
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	|| { echo 'seatkeeper: "$(PYTHON)" is not Python 3.11 or newer; name one with PYTHON=…' >&2; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	|| { echo 'seatkeeper: "$(PYTHON)" lacks the venv module (Debian: apt-get install python3-venv)' >&2; exit 1; }
endef

# $(1) the lock to install, $(2) every lock that is satisfied by it
define install
mkdir -p build; \
if cmp -s $(1) $(VENV)/$(1) && $(BIN)/python -c '' 2>/dev/null; then exit 0; fi; \
$(check-python); \
if ! test -f $(VENV)/requirements.lock || ! $(BIN)/python -c '' 2>/dev/null; then \
	echo 'seatkeeper: making $(VENV) (once, some 20 seconds)' >&2; \
	rm -rf $(VENV); \
	$(PYTHON) -m venv $(VENV) || { echo 'seatkeeper: "$(PYTHON) -m venv" failed' >&2; exit 1; }; \
fi; \
rm -f $(VENV)/requirements.lock $(VENV)/requirements-dev.lock; \
$(BIN)/python -m pip $(PIP_QUIET) install --require-hashes --no-deps --only-binary :all: -r $(1) \
	|| { echo 'seatkeeper: pip could not install $(1); its own words are above' >&2; exit 1; }; \
cp $(2) $(VENV)/
endef

env:
	@$(call install,requirements.lock,requirements.lock)

env-dev:
	@$(call install,requirements-dev.lock,requirements.lock requirements-dev.lock)

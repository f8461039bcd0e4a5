# The two commands are `make demo` and `make test`. Everything is installed into .venv; state stays in .dagster and out.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
# For example PIP_ARGS="--extra-index-url URL" where another index holds CPU builds of torch.
PIP_ARGS ?=
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt

.PHONY: demo test lint types imports pytest coverage chaos spot-chaos budget-storm budget-trial dev install system-libraries lock clean

demo: .venv/.engine system-libraries
	$(BIN)/avatar demo

test: lint types imports pytest

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.dev
	$(BIN)/mypy

imports: .venv/.dev
	$(BIN)/lint-imports

pytest: .venv/.dev system-libraries
	$(BIN)/pytest -n 3 --dist worksteal --durations=10

# The same, with the lines that no test runs; it takes a minute and a half longer.
coverage: .venv/.dev system-libraries
	$(BIN)/pytest -n 3 --dist worksteal --cov --cov-report=term:skip-covered

# 300 requests, 40 kills, on SQLite and then on PostgreSQL: about a quarter of an hour each on two cores.
chaos: .venv/.dev system-libraries
	$(BIN)/python -m tests.chaos --requests 300 --kills 40 --database both

# 200 runs in a simulated Kubernetes, disturbed at random: about ten minutes on two cores.
spot-chaos: .venv/.dev
	$(BIN)/python -m tests.spot.chaos --scenarios 200 --seed 0 --workers 2

# The gate: 10,000 random orders of calls beside a model (half an hour on two cores), then rivals that are killed now and
# then, 16 processes on PostgreSQL and 8 on SQLite, for a minute each.
budget-storm: .venv/.dev
	$(BIN)/python -m tests.ledger.money --examples 10000
	$(BIN)/python -m tests.ledger.money storm --database both --seconds 60

# 40 clips and money for 10, under `dagster dev`, its daemon killed twice: about three minutes.
budget-trial: .venv/.dev system-libraries
	$(BIN)/python -m tests.budget

dev: .venv/.engine system-libraries
	mkdir -p .dagster
	$(BIN)/dagster dev

install: .venv/.engine

system-libraries:
	scripts/system-libraries

.venv/.engine: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) -e ".[engine,local-voice,ui]"
	touch $@

.venv/.dev: .venv/.engine
	$(INSTALL) -e ".[engine,local-voice,ui,aws,k8s,postgres,lab,dev]"
	touch $@

# Resolve everything anew, in a fresh environment, and pin what came out. torch is pinned without its build's local label.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet $(PIP_ARGS) "torch==2.13.0" -e ".[engine,local-voice,ui,aws,k8s,postgres,lab,dev,bench]"
	{ sed -n '/^#/p' constraints.txt; .venv-lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu$$//'; } > constraints.new
	mv constraints.new constraints.txt
	rm -rf .venv-lock

clean:
	rm -rf .venv out .dagster

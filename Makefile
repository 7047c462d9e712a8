# Each target does its own set-up. `make` lists them.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN    := .venv/bin
RUN    := PYTHONPATH=. PYTHONDONTWRITEBYTECODE= $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help setup demo up down status audit query chaos test test-compose lint format lock bench clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/ready  ## virtual environment with the locked dependencies

# Compiled at once: otherwise each of Airflow's processes compiles thousands of files for itself.
.venv/ready: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || { echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Set PYTHON=..."; exit 1; }
	@echo "Setting up .venv (once, a minute or two) ..."
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.8
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	@touch $@

demo: setup  ## an hour of uploads through the real Dag on this machine, checked (about a minute)
	@$(RUN) -m local_stack.demo

up: setup  ## Airflow and local AWS, running until `make down`
	@$(RUN) -m local_stack up

down:  ## stop what `make up` started; buckets, queue and model are kept for the next `make up`
	@[ ! -x $(BIN)/python ] || $(RUN) -m local_stack down

status: setup  ## what runs, and whether the model bills
	@$(RUN) -m local_stack status

audit: setup  ## does all add up? uploads against results, by the LABELS_* of the shell, else of `make up`
	@[ -n "$$LABELS_FINAL_BUCKET" ] || . .local/up/aws.env; $(RUN) -m include.audit

query: setup  ## ask the results of `make up` (NAME=images_with_label PARAMS="label=mug"; without NAME: which queries there are)
	@[ -n "$$LABELS_FINAL_BUCKET" ] || . .local/up/aws.env; $(RUN) -m include.cli query $(NAME) $(foreach value,$(PARAMS),--param '$(value)')

SEEDS ?= 100
SEED_START ?= 1000

chaos: setup  ## kill and disturb runs at random, and audit what is left (SEEDS=500 SEED_START=1000 for a night)
	@$(RUN) -m local_stack.chaos --seeds $(SEEDS) --seed-start $(SEED_START)

test: setup  ## all tests that need nothing but Python
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest tests --ignore=tests/compose

test-compose: setup  ## docker-compose.yaml, every service run natively (needs docker-compose, postgresql, redis-server, curl)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest tests/compose

lint: setup  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@MYPYPATH=plugins:dags $(BIN)/mypy --no-error-summary include dags plugins local_aws local_stack benchmarks

format: setup  ## put code into shape
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

bench: bench-pacing bench-bill bench-scale  ## pacing, the bill, scale (an hour; each alone: make bench-pacing, ...; also bench-drain, bench-archive, bench-queries)

bench-%: setup
	@$(RUN) -m benchmarks.$*

lock: setup  ## resolve requirements*.txt anew into requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header requirements-dev.txt -o requirements.lock

clean: down  ## forget everything local: environment, state, results
	@rm -rf .venv .local .mypy_cache .ruff_cache

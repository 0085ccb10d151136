# The whole interface of this repository. Every target sets up what it needs.

.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
PYTHON ?= python3.11
PIP := pip install --quiet --disable-pip-version-check
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Many containers forbid Python to keep what it has compiled. Tests start hundreds of processes, of which each would spend
# three seconds of a processor on compiling the same modules again.
unexport PYTHONDONTWRITEBYTECODE

NAME ?=
API ?=
ROLE ?= agent
BRANCH ?= bishkek
# Who the token says that you are.
SUBJECT ?= developer
ARGS ?=
BENCHES := rpc access orders pricing relay import json growth pricing_catalog import_catalog search dedupe permission value \
    view360 timeline orders_mix
SHARED ?= ../shared
PACKAGES := chassis services/catalog services/customers services/orders services/gateway cli
PROTOS := $(shell find protos -name '*.proto') protos/setup.py protos/pyproject.toml

# Recipes of the set-up print to stderr: what a target answers (a token, a report) stays alone on stdout.
# uv, itself pinned in the lock, installs in a tenth of the time; where only pip knows the package index, pip does it.
$(VENV)/requirements.stamp: requirements.lock
	@echo "Installing what requirements.lock names into $(VENV) …" >&2
	@$(PYTHON) -m venv $(VENV) >&2
	@awk '/^uv==/ { wanted = 1; print; next } /^[^ ]/ { wanted = 0 } wanted' $< > $(VENV)/uv.txt
	@$(PIP) --require-hashes -r $(VENV)/uv.txt >&2
	@uv pip install --quiet --python $(VENV)/bin/python --require-hashes -r $< >&2 || $(PIP) --require-hashes -r $< >&2
	@touch $@

$(VENV)/protos.stamp: $(VENV)/requirements.stamp $(PROTOS)
	@echo "Compiling protos …" >&2
	@rm -rf protos/build
	@$(PIP) --no-deps --no-build-isolation --force-reinstall ./protos >&2
	@rm -rf protos/build protos/*.egg-info
	@touch $@

$(VENV)/packages.stamp: $(VENV)/requirements.stamp $(PACKAGES:%=%/pyproject.toml)
	@echo "Installing our own packages …" >&2
	@$(PIP) --no-deps --no-build-isolation --config-settings editable_mode=compat $(PACKAGES:%=--editable ./%) >&2
	@touch $@

node_modules/.stamp: package-lock.json
	@echo "Installing newman …" >&2
	@npm ci --silent --no-audit --no-fund >&2
	@touch $@

.PHONY: help
help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

.PHONY: setup
setup: $(VENV)/protos.stamp $(VENV)/packages.stamp ## the virtual environment with everything in it

.PHONY: run
run: setup ## the platform in the foreground until Ctrl-C; prints READY and the gateway's URL
	@svyaz run

.PHONY: up
up: setup ## the platform in the background; returns when it is ready
	@svyaz up

.PHONY: down
down: setup ## stops what `make up` started, keeping the data
	@svyaz down

.PHONY: token
token: setup ## a token of the development issuer: ROLE=agent BRANCH=bishkek [SUBJECT=developer]
	@svyaz token --role '$(ROLE)' --branch '$(BRANCH)' --subject '$(SUBJECT)'

.PHONY: test
test: setup ## every test
	pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: check
check: setup ## formatting, types, imports between modules, contracts of the protos
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache
	cd protos && buf lint
	cd protos && buf breaking --against baseline.binpb

.PHONY: baseline
baseline: setup ## renews what later protos are compared with; part of a release
	cd protos && buf build --exclude-source-info --output baseline.binpb

.PHONY: bench
bench: setup ## measures beside a baseline: NAME=orders, say; without NAME it names them all
	@$(if $(filter $(NAME),$(BENCHES)),,echo "NAME: '$(NAME)' is none of $$(echo $(BENCHES) | sed 's/ /, /g')" >&2; exit 2)
	python -m tests.bench.$(NAME) $(ARGS)

.PHONY: ctk
ctk: setup node_modules/.stamp ## TM Forum's conformance kit against `make up`: API=TMF620
	python -m tests.ctk.run '$(API)' --kits '$(SHARED)/tmf/ctk' $(ARGS)

.PHONY: chart
chart: setup ## renders, lints and validates the chart, its alerts and the Dockerfile
	pytest tests/deploy $(ARGS)

# What `chart` and `test` need beside Python, and `images`.
include deploy/chart.mk

.PHONY: lock
lock: setup ## pins requirements.in anew; no index address gets into the file
	uv pip compile --quiet --generate-hashes --no-emit-index-url --python-version 3.11 \
	    --custom-compile-command 'make lock' --output-file requirements.lock requirements.in $(ARGS)

.PHONY: clean
clean: ## removes what can be made again, and the data under var/
	rm -rf $(VENV) node_modules var .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

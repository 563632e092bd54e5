# Everything is done with `make`, here and in CI. Each target builds the environment it needs.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# The environment belongs to the lock files' content: another content, another stamp.
STAMP := $(VENV)/.installed-$(firstword $(shell cat requirements.lock requirements-workers.lock | cksum))
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check
# torch comes first and with its dependencies: the plain name gives each platform the build it wants.
TORCH := $(shell sed -n 's/^  "\(torch==[0-9.]*\)".*/\1/p' pyproject.toml | head -n 1)
# uv installs what is locked in a sixth of pip's time; where it does not get through (a mirror that only pip knows of,
# which is also why torch is pip's), pip does that too.
UV := $(shell grep -o '^uv==[0-9.]*' requirements.lock)
LOCKED := --no-deps -r requirements.lock -r requirements-workers.lock
# Long lanes early, so that none is left alone at the end.
TIERS := acceptance contract chaos integration unit architecture

# Tests run a few lanes at a time (tests/lanes.py); AT_ONCE=0 runs one test after the other.
AT_ONCE ?= auto
TOGETHER := --numprocesses $(AT_ONCE) --dist loadscope

# Options of `make chaos`; what is not given keeps the harness's own default.
CHAOS_OPTIONS := $(if $(SEED),--seed $(SEED)) $(if $(JOBS),--jobs $(JOBS)) $(if $(DB),--db $(DB)) \
  $(if $(FAULTS),--faults $(FAULTS)) $(if $(MODEL),--model $(MODEL))

# A lock names versions for every platform and no place to get them from.
COMPILE := $(RUN) -m uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --no-annotate \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help env up down test check quick fmt lint format types imports lock chaos bench clean
MAKEFLAGS += --no-print-directory

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

env: $(STAMP) ## Build the environment in .venv (every target does so when it has to)

$(STAMP):
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) is not on the PATH. Install Python 3.11 or newer, or say make PYTHON=/path/to/python3."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Stoker needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Say make PYTHON=python3.12, or what you have."; \
	  exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) lacks venv. Install it (on Debian and Ubuntu: apt install python3-venv) and try again."; exit 1; }
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Building the environment in $(VENV), 2 GB with the model libraries; the first time takes one to three minutes."
	@{ $(PIP) $(TORCH) $(UV) && { $(RUN) -m uv pip install --quiet $(LOCKED) || $(PIP) $(LOCKED); }; } \
	  >$(VENV)/install.log 2>&1 || { cat $(VENV)/install.log; \
	  echo "The environment could not be built. The lines above say why; try again with: make env"; exit 1; }
	@rm -f $(VENV)/.installed-* && touch $@

up: $(STAMP) ## Start the whole platform (DETACH=1: in the background)
	@$(RUN) -m stoker up $(if $(filter-out 0,$(DETACH)),--detach)

down: $(STAMP) ## Stop what `make up DETACH=1` started
	@$(RUN) -m stoker down

test: format lint types imports ## Run every check and every test
	@$(RUN) -m pytest $(TOGETHER) $(addprefix tests/,$(TIERS))

# Two at a time: the tests take as long as all the others together.
check: $(STAMP) ## Run the fast checks: format, lint, types, imports, architecture, unit
	@$(MAKE) -j2 format lint types imports quick

quick: $(STAMP)
	@$(RUN) -m pytest $(TOGETHER) tests/unit tests/architecture

fmt: $(STAMP) ## Rewrite the code in the house format
	@$(RUN) -m ruff check --quiet --select I --fix
	@$(RUN) -m ruff format

format: $(STAMP)
	@$(RUN) -m ruff format --check --quiet --output-format concise || { echo "To format them: make fmt"; exit 1; }

lint: $(STAMP) ## Look for mistakes (ruff)
	@$(RUN) -m ruff check --quiet --output-format concise

types: $(STAMP) ## Check the types (mypy, strict)
	@$(RUN) -m mypy

imports: $(STAMP) ## Check who imports whom (import-linter)
	@said=$$($(VENV)/bin/lint-imports --no-cache --no-logo) || { echo "$$said"; exit 1; }

lock: $(STAMP) ## Resolve pyproject.toml's groups again into the lock files
	@$(COMPILE) --group core --group test --group dev -o requirements.lock
	@$(COMPILE) --group core -c requirements.lock -o requirements-core.lock
	@$(COMPILE) --group core --group workers -c requirements.lock --no-emit-package torch -o requirements-workers.lock

chaos: $(STAMP) ## Break things on purpose (SEED=1 JOBS=2000 DB=sqlite|postgres MODEL=chat|batch FAULTS=a,b)
	@$(RUN) -m tests.chaos $(CHAOS_OPTIONS)

bench: $(STAMP) ## Measure the cost of a job beside the naive way
	@$(RUN) -m bench

clean: ## Remove the environment, caches and what runs left behind, but not .stoker (your data)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

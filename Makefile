# Every verb works from a bare clone with Python 3.11+, git and make; `make` alone lists them.
# PYTHON=/path/to/python3.12 chooses the interpreter; else scripts/find_python.sh looks for one.

.DEFAULT_GOAL := help
.PHONY: help run test check lint format faults bench clean browser environment-run environment-dev environment-bench

SHELL := /bin/sh
VENV_PYTHON := .venv/bin/python

# Only what was typed after `make` counts here: HOST is set to the machine's own name by some shells.
typed = $(if $(findstring command line,$(origin $(1))),$($(1)))

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  make run DIR=/path/to/project    serve a directory of your own'
	@echo '  make run PORT=8080 HOST=0.0.0.0  listen elsewhere (default: localhost, 3000)'
	@echo '  make … PYTHON=python3.12         use this Python for .venv'

run: export RUN_DIR = $(call typed,DIR)
run: export RUN_HOST = $(call typed,HOST)
run: export RUN_PORT = $(PORT)
run: environment-run ## install what is needed and start the server on a fresh copy of examples/calculator
	@exec $(VENV_PYTHON) -m scripts.run

test: environment-dev browser ## install what the checks need and run them all: format, lint, types, tests plain and under gevent
	@exec $(VENV_PYTHON) -m scripts.check

check: test ## the same as test

lint: environment-dev ## only the checks that need no test run: format, lint, types
	@exec $(VENV_PYTHON) -m scripts.check --lint

format: environment-dev ## rewrite the code as the formatter and the safe fixes of the linter want it
	@$(VENV_PYTHON) -m ruff check --quiet --fix-only .
	@$(VENV_PYTHON) -m ruff format .

faults: environment-dev ## kill the server 200 times under running turns, and prove that nothing is lost (a quarter of an hour)
	@exec $(VENV_PYTHON) -m bench.faults --kills 200

bench: environment-bench ## measure streams and requests against what people use; the tables of docs/performance.md
	@exec $(VENV_PYTHON) -m bench

cluster: environment-dev ## kill servers, workers, Redis and PostgreSQL under running turns, and prove that nothing is lost (minutes)
	@exec $(VENV_PYTHON) -m bench.cluster --sessions 20 --turns 200 --rounds 2

clean: ## remove all that the other verbs made: .venv, caches, .work (the example's copies, too)
	rm -rf .venv .work .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	@find app.py opencode tests scripts examples bench -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

browser: environment-dev
	@$(VENV_PYTHON) -m scripts.browser

environment-run environment-dev environment-bench: environment-%:
	@python=$$(PYTHON='$(PYTHON)' sh scripts/find_python.sh) && exec "$$python" -m scripts.environment $*

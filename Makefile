# Two commands do everything: `make demo` to see it run, `make test` to test it.

PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python -m
CHECKS := lint format types imports unused locks collector
# What must be covered, every branch: the parts that keep the promises.
COVERED := gateway.model gateway.ingest gateway.deliver gateway.ledger gateway.replay

.DEFAULT_GOAL := help
.PHONY: help demo bench chaos test test-setup check $(CHECKS:%=check-%) coverage lock engines wheel clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(VENV)/.run-time ## Run everything on this machine: gateway, sandbox, demo storefront, console
	$(RUN) gateway demo

test: test-setup ## Install what the tests need, then run them all
	$(RUN) pytest

test-setup: $(VENV)/.test ## Only install what the tests need
	@.ci/programs

check: $(VENV)/.test ## Run every check; each one reports, whichever fails
	@failed=""; \
	for check in $(CHECKS); do \
	    echo "--- $$check"; \
	    $(MAKE) --no-print-directory check-$$check || failed="$$failed $$check"; \
	done; \
	if [ -n "$$failed" ]; then echo "make check: failed:$$failed" >&2; exit 1; fi; \
	echo "make check: all passed"

check-lint: $(VENV)/.test
	@$(RUN) ruff check

check-format: $(VENV)/.test
	@$(RUN) ruff format --check

check-types: $(VENV)/.test
	@$(RUN) mypy

check-imports: $(VENV)/.test
	@$(VENV)/bin/lint-imports

check-unused: $(VENV)/.test
	@$(RUN) vulture

check-locks: $(VENV)/.test
	@$(VENV)/bin/python .ci/locks.py check

# Types, size, that the built file is what its source gives, unit tests: static/package.json lists
# them. Only this check needs Node.js: without it it does not run, which under CI is a failure.
check-collector:
	@if ! command -v npm >/dev/null; then \
	    echo "did not run, npm is missing: sudo apt-get install -y nodejs npm"; [ -z "$$CI" ]; \
	else \
	    $(MAKE) --no-print-directory static/node_modules/.installed && \
	    cd static && npm run --silent check; \
	fi

coverage: test-setup ## Run the unit and contract tests; every branch of the core must be covered
	$(RUN) pytest tests/unit tests/contract $(COVERED:%=--cov=%) --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100

lock: .cache/uv/bin/uv ## Write the lock files anew; OPTIONS=--upgrade takes the newest versions
	$(PYTHON) .ci/locks.py make $(abspath $<) $(OPTIONS)

bench: $(VENV)/.test ## Measure what a request, an event, a cart and a window cost (about eight minutes)
	@$(RUN) tests.bench $(OPTIONS)

engines: test-setup ## Test the collector in three browser engines, with what takes minutes too
	$(RUN) pytest -m "slow or not slow" --log-cli-level=INFO tests/system/test_collector.py

chaos: test-setup ## Break everything at random, and account for every event (about 20 minutes)
	$(RUN) tests.chaos --seeds 5 $(OPTIONS)

wheel: $(VENV)/.test ## Build the wheel into dist/
	$(RUN) build --wheel --no-isolation

clean: ## Remove everything that these targets made
	rm -rf $(VENV) .cache dist build static/node_modules .mypy_cache .ruff_cache .pytest_cache \
	    .import_linter_cache .hypothesis .coverage
	find gateway tests .ci -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }  # no half of one, without pip

# The stamps keep repeated runs fast: nothing is installed until a lock file changes.
$(VENV)/.run-time: requirements.txt | $(VENV)/bin/python
	$(RUN) pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/.test: requirements-test.txt | $(VENV)/bin/python
	$(RUN) pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@ $(VENV)/.run-time

static/node_modules/.installed: static/package-lock.json
	cd static && npm ci --no-audit --no-fund
	@touch $@

.cache/uv/bin/uv:
	$(PYTHON) -m venv .cache/uv
	.cache/uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.9

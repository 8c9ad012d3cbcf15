# Each target makes the virtual environment first, if it is missing or stale.

PYTHON ?= $(shell for one in python3.13 python3.12 python3.11 python3; do \
	$$one -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$one && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input
ARGS ?=
CONTAINER := ops/deploy/container
HASHED = $(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header
# Without compiled files, each process that a test starts would compile the whole package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install up proof drill test collect mutate simulate measure reference docs release constraints clean
.PHONY: check check-types check-style check-imports format

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Make .venv with everything in it

up: $(INSTALLED) ## Start the whole system on this machine (ARGS="--data DIR" ...)
	@$(BIN)/unlost up $(ARGS)

proof: $(INSTALLED) ## Start the whole system on free ports, publish, verify, stop
	@$(BIN)/unlost check $(ARGS)

bench: $(INSTALLED) ## Measure on this machine, side by side (ARGS="--full --json FILE" ...)
	@$(BIN)/unlost bench $(ARGS)

test: $(INSTALLED) ## Run the tests, on real servers, four at a time (ARGS="-k name" ...)
	@$(BIN)/pytest -n 4 --dist worksteal $(ARGS)

drill: $(INSTALLED) ## Damage a private system and report whether every event was kept (ARGS="redis-frozen", ARGS=all, ARGS=--list)
	@$(BIN)/unlost drill $(ARGS)

mutate: $(INSTALLED) $(VENV)/.mutate ## Put mistakes into the code, and see that tests notice (ARGS="--seeds 7 --mutants 40" ...)
	@$(BIN)/python -m tests.mutation $(ARGS)

simulate: $(INSTALLED) ## Hunt for schedules that break the law (ARGS="--schedules 20000 --seed 7" ...)
	@$(BIN)/python -m tests.simulation $(ARGS)

check: check-types check-style check-imports ## Check format, lint, types and the import contract

check-types: $(INSTALLED)
	@$(BIN)/mypy

check-style: $(INSTALLED)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

check-imports: $(INSTALLED)
	@$(BIN)/lint-imports --no-logo

collect: $(INSTALLED) # Import all tests once, so that their compiled files are there before several processes need them
	@$(BIN)/pytest --collect-only > $(VENV)/collected || { cat $(VENV)/collected; exit 1; }

format: $(INSTALLED) ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

measure: $(INSTALLED) ## Show how long files, functions and sentences are (ARGS=COMMIT: at that commit, too)
	@$(BIN)/python -m tests.measure $(ARGS)

reference: $(INSTALLED) ## Generate docs/metrics.md, docs/reference and Grafana's dashboards
	@$(BIN)/python -m unlost.ops.generate.metrics_page > docs/metrics.md
	@$(BIN)/python -m unlost.ops.generate.settings_page > docs/reference/settings.md
	@$(BIN)/python -m unlost.ops.generate.profile_page > docs/reference/profiles.md
	@$(BIN)/python -m unlost.ops.generate.openapi_files
	@$(BIN)/python -m grafana

docs: $(INSTALLED) $(VENV)/.docs ## Build the documents' site in build/site; a broken link or anchor fails
	@$(BIN)/python -m properdocs build --config-file docs/site/properdocs.yml

constraints: $(INSTALLED) $(VENV)/.release ## Pin what the tests ran with, and what the image installs by hash
	@$(BIN)/python -m tests.release.constraints > $(VENV)/constraints && cp $(VENV)/constraints constraints.txt
	@$(HASHED) -c constraints.txt --extra codec --extra oidc pyproject.toml -o $(CONTAINER)/requirements.txt
	@printf 'setuptools\nwheel\n' | $(HASHED) - -o $(CONTAINER)/build-requirements.txt

release: $(INSTALLED) $(VENV)/.release ## Build wheel and sdist, check them, install each anew on every Python, run unlost check
	@$(BIN)/python -m tests.release

clean: ## Remove the environment and all caches; .unlost, the data, stays
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .mutation *.egg-info build dist

$(VENV)/.mutate: tests/mutation/requirements.txt $(INSTALLED)
	@$(PIP) -c constraints.txt -r tests/mutation/requirements.txt
	@touch $@

$(VENV)/.docs: docs/site/requirements.txt $(INSTALLED)
	@$(PIP) -c constraints.txt -r docs/site/requirements.txt
	@touch $@

$(VENV)/.release: tests/release/requirements.txt $(INSTALLED)
	@$(PIP) -r tests/release/requirements.txt
	@touch $@

# The pip that Python brings is older than 25.1: it cannot read [dependency-groups], and resolves three times as long.
# One pip asks for a package after the other, so several install ahead what is pinned; the last one decides, and installs
# what is missing. Half of all files are never imported, so none is compiled before it is.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: Python 3.11 or newer with its venv module is needed" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) 'pip>=25.1'
	@grep -v '^#' constraints.txt | xargs -n 35 -P 4 $(PIP) --no-deps --no-compile 2> $(VENV)/ahead || true
	@$(PIP) --no-compile -c constraints.txt --group dev -e '.[local]'
	@touch $@

# buildorch's own front door. `make` alone says what there is.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Two files of tests at once, in the order of their names: those that wait for an engine leave room for those that compute.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
PROOFS := $(addprefix tests/engine/test_,skip_proof.py contexts_cannot_lie.py dying_engine.py interrupts.py two_runs.py \
	registry_faults.py hostile_images.py init.py) $(addprefix tests/unit/test_,schedule.py killed_runs.py ledger_verification.py)

.PHONY: help
help: ## Show this
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.runtime: pyproject.toml scripts/venv
	@scripts/venv $(PYTHON) $(VENV) .
	@touch $@

$(VENV)/.dev: pyproject.toml scripts/venv
	@scripts/venv $(PYTHON) $(VENV) '.[dev]'
	@touch $(VENV)/.runtime $@

.PHONY: setup
setup: $(VENV)/.dev ## Make .venv with everything development needs

.PHONY: build-all
build-all: $(VENV)/.runtime ## Build every service of services.yaml (ARGS="-j 4 --push" are passed on)
	@scripts/with-engine --bases $(BIN)/python -m buildorch build-all $(ARGS)

.PHONY: plan
plan: $(VENV)/.runtime ## Show what build-all would build
	@$(BIN)/python -m buildorch plan $(ARGS)

.PHONY: show
show: $(VENV)/.runtime ## Show the last record of every service
	@$(BIN)/python -m buildorch show $(ARGS)

.PHONY: doctor
doctor: $(VENV)/.runtime ## Say whether this machine is fit to build, and what to do
	@$(BIN)/python -m buildorch doctor $(ARGS)

.PHONY: test
test: $(VENV)/.dev ## Run every test, with a real engine
	@scripts/chromium >/dev/null
	@scripts/shells >/dev/null
	@scripts/with-engine --bases $(PYTEST) $(ARGS)

.PHONY: test-unit
test-unit: $(VENV)/.dev ## Run the unit tests but for the proofs, or all of what ARGS names that needs no engine
	@$(if $(filter tests/%,$(ARGS)),$(PYTEST) -m 'not engine',scripts/test-unit) $(ARGS)

.PHONY: soak
soak: $(VENV)/.dev ## Run the long proofs, counts and seeds printed
	@BUILDORCH_SOAK=1 scripts/with-engine --bases $(BIN)/python -m pytest --timeout=0 -s $(PROOFS) $(ARGS)

.PHONY: lint
lint: $(VENV)/.dev ## Check style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: docs
docs: $(VENV)/.dev ## Build the documentation into site/, without a warning
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.PHONY: check
check: lint docs test ## Everything CI runs: style, types, import rules, docs, tests

.PHONY: schemas
schemas: $(VENV)/.dev ## Write the published schemas again
	$(BIN)/python scripts/write-schemas

.PHONY: man
man: $(VENV)/.dev ## Write the man page again
	$(BIN)/python scripts/write-man

.PHONY: captures
captures: $(VENV)/.dev ## Write the pictures of the live view in the docs again
	$(BIN)/python scripts/write-captures

.PHONY: bench
bench: $(VENV)/.dev ## Measure speed and memory against docker buildx bake
	@scripts/with-engine --bases $(BIN)/python -m bench $(ARGS)

.PHONY: clean
clean: ## Remove what was made here: .venv, caches, the ledger and the record
	rm -rf $(VENV) .buildorch site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

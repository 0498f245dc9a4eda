# Warren's commands. `make help` lists them; `make demo` and `make test` do all the set-up they need.

SHELL := /bin/bash
.DEFAULT_GOAL := help
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/warren
PYTHON ?= python3
UV_VERSION := 0.13.8
UV := .tools/bin/uv
RUN := .venv/bin/

# What needs namespaces is its own root, where the user is not.
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo unshare --user --map-root-user --)

# Rust's work is kept outside the checkout, so that a second clone builds in seconds.
export CARGO_TARGET_DIR ?= $(CACHE)/target
export UV_COMPILE_BYTECODE := 1
export UV_PYTHON_DOWNLOADS := never
export DEMO_DIR ?= .demo
export PORT ?= 3000

.PHONY: help demo demo-stop test check setup test-tools bench bench-network netlab dev gen fmt lint types contracts generated unit integration e2e lab interop engine clean

help: ## List the commands
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):[^#]*## /\1\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: setup ## From an empty machine to a shell in a workspace; state in .demo/ (DEMO_DIR=, PORT=)
	@$(RUN)python scripts/demo.py up

demo-stop: ## Stop everything that `make demo` started, workspaces included
	@if [ -x $(RUN)python ]; then $(RUN)python scripts/demo.py stop; else echo "nothing to stop: make demo was not run here"; fi

test: setup test-tools ## Set everything up and pass all tests
	@$(MAKE) --no-print-directory lint types contracts generated engine
	$(RUN)pytest -n 2 --dist loadfile tests

check: setup test-tools fmt lint types contracts generated unit engine integration e2e lab interop ## What CI runs, fastest first

setup: .tools/.uv-$(UV_VERSION) ## Install all that is needed into the checkout (uv, Python packages, the engine)
	@scripts/setup.sh

.tools/.uv-$(UV_VERSION):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Warren needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version). Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@command -v cargo >/dev/null || { echo "Warren's engine needs a Rust toolchain: install rustup (https://rustup.rs), then run this again." >&2; exit 1; }
	@$(PYTHON) -m venv .tools && .tools/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@touch $@

test-tools: setup # Debian packages that some tests use, where we may install them
	@scripts/test_tools.sh

dev: setup ## Run the server in the foreground from this checkout
	$(RUN)warren server

bench: setup ## Measure everything; ONLY=name,name for a few
	@$(RUN)python -m benchmarks $(if $(ONLY),--only $(ONLY))

bench-network: setup ## Measure the network against other implementations; ONLY=name,name for a few
	@$(RUN)python -m benchmarks.network $(if $(ONLY),--only $(ONLY))

netlab: setup test-tools ## Every network of the lab with every other, as a table; ONLY="easy cut" for a few, JOBS=
	@$(RUN)warren netlab run $(or $(ONLY),all) --jobs $(or $(JOBS),2)

gen: setup ## Make the generated files again: messages, schema, reference pages
	@scripts/generate.sh

fmt: ## Format Python and Rust
	$(RUN)ruff format src tests benchmarks scripts
	cargo fmt --all

lint: ## ruff, codespell, rustfmt, clippy
	$(RUN)ruff format --check src tests benchmarks scripts
	$(RUN)ruff check src tests benchmarks scripts
	$(RUN)codespell src tests docs benchmarks scripts engine/src *.md
	cargo fmt --all --check
	cargo clippy --locked --release --all-targets -- -D warnings

types: ## basedpyright, strict
	$(RUN)basedpyright

contracts: ## import-linter: which package may import which
	$(RUN)lint-imports

generated: ## Generated files are what their sources make
	@scripts/generate.sh --check

engine: ## The engine's own tests
	cargo test --locked --release -p warren-engine

unit: ## Pure code: no sockets, no files
	$(RUN)pytest -n 2 tests/unit

integration: ## Real PostgreSQL, Terraform, SSH
	$(RUN)pytest -n 2 --dist loadfile tests/integration

e2e: ## The shipped commands, as a user would
	$(RUN)pytest tests/e2e

lab: ## Networks with NATs and faults, in namespaces
	$(AS_ROOT) $(RUN)pytest tests/netlab

interop: ## Other implementations
	$(RUN)pytest tests/interop

clean: ## Remove what set-up made (not the demo's state)
	rm -rf .venv .tools

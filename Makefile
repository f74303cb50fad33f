# `make` alone prints what there is. Everything runs from .venv; nothing outside this folder is written,
# but for the caches of pip and uv, and the real peers' (tests/peers/README.md).

PYTHON ?= python3
# Processes that run tests; each may start a browser, Airflow or an API server.
WORKERS ?= 2
BIN := .venv/bin
STAMP := .venv/.stamp
PROTOS := $(wildcard collectors/hubble_api/*/*.proto)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo check test test-fast bench proto editor peers peers-all docs image

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Install the locked dependencies and this project into .venv

# uv installs in seconds what takes pip minutes, but not every platform has it, so pip must do too.
# The project itself goes in without dependencies: the lock, whose hashes are required, has them all.
$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install uv || echo "uv cannot be installed here; going on with pip, which is slower"
	if [ -x $(BIN)/uv ]; then install="$(BIN)/uv pip install --python $(BIN)/python"; else install="$(BIN)/python -m pip install"; fi; \
	$$install --require-hashes -r requirements.lock && \
	$$install --no-deps -e .
	touch $@

demo: setup ## Run a simulated fleet, its collectors, history, Airflow and the dashboard; Ctrl-C stops it
	$(BIN)/hindcast demo

check: setup ## Check format, lint, types and the arrows between packages
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup ## Run the tests; those that need a real peer skip where it was not built
	$(BIN)/python -m pytest --durations=10 -n $(WORKERS) --dist loadfile

test-fast: setup ## Run the quick tests only: the inner loop
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "not slow and not peers and not airflow and not browser"

bench: setup ## Run the benchmarks; each prints a ratio against a named peer
	for name in decode ingest rollup size freshness import_files kill memory config_snapshot drift ownership crash crash_removal policy_judge policy_replay proposal alert_rules serve demo_airflow; do $(BIN)/python -m benchmarks.$$name || exit 1; done

proto: setup ## Generate the wire contract's Python modules from its .proto files
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. $(PROTOS)

editor: ## Bundle the editors of SQL and of policies from dashboards/editor (needs Node.js)
	cd dashboards/editor && npm ci --ignore-scripts && npm run build

peers: ## Build the real Hubble and Kubernetes programs that tests run against (needs Go)
	$(PYTHON) tests/peers/build.py

peers-all: ## Build also the peers that cost minutes of their own, such as Cilium 1.19's policy engine
	$(PYTHON) tests/peers/build.py all

# Through a file beside it: a generator that fails must not leave an empty page.
docs: setup ## Write docs/tables.md and docs/blueprint.schema.json from the code
	$(BIN)/python -m warehouse.schema.tables_doc > docs/tables.md.new
	mv docs/tables.md.new docs/tables.md
	$(BIN)/hindcast blueprint schema > docs/blueprint.schema.json.new
	mv docs/blueprint.schema.json.new docs/blueprint.schema.json

image: setup ## Build the images with buildah: hindcast and hindcast-airflow (Containerfile)
	deploy/image/build.sh

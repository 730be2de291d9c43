# Every target does all of its own set-up. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
# Files of tests are shared out over processes. One process: make test PARALLEL=
PARALLEL = -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test test-kafka java faults faults-full test-faults lint format audit audit-full bench bench-short bench-accuracy schemas lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.venv/.run: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Headcount needs Python 3.11 or later; say PYTHON=python3.12 make …") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing what the pipeline needs …"
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: .venv/.run requirements-dev.lock
	@echo "installing what the tests need …"
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

demo: .venv/.run ## simulate an application's users through the whole pipeline; leaves var/demo/statistics.duckdb
	@$(BIN)/headcount demo

test: .venv/.dev ## run every test that needs nothing but Python
	@$(BIN)/python -m pytest -m "not kafka" $(PARALLEL)

# A broker that the environment names is used instead of one that is started here, which takes Java. Everyone uses that
# one, so that the tests run one after the other.
java: .venv/.dev
	@test -n "$$KAFKA_BOOTSTRAP_SERVERS" || sh tests/deployment/kafka/need.sh
	@test -n "$$KAFKA_BOOTSTRAP_SERVERS" || $(BIN)/python -m tests.deployment.apache

test-kafka: java ## run the tests on Apache Kafka; installs Java and Maven where it may
	@HEADCOUNT_REQUIRE_KAFKA=1 $(BIN)/python -m pytest -m kafka tests/deployment $(if $(KAFKA_BOOTSTRAP_SERVERS),,$(PARALLEL))

faults: java ## do to workers and brokers what happens in operation, in under four minutes; writes var/faults.json
	@$(BIN)/python -m tests.faults

faults-full: java ## the same, as often as docs/faults.md says: half an hour
	@$(BIN)/python -m tests.faults --full

test-faults: faults-full

lint: .venv/.dev ## formatting, lint, types, import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: .venv/.dev ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

audit: .venv/.run ## try to break the promise, in minutes; leaves var/audit.json
	@$(BIN)/headcount audit

audit-full: .venv/.run ## the same at full size, in half an hour
	@$(BIN)/headcount audit --full

bench: .venv/.dev ## measure beside a ceiling and beside other frameworks; writes tests/bench/RESULTS.md and var/bench.json
	@$(BIN)/python -m tests.bench

var/pipelinedp/.done:
	@$(PYTHON) -m venv var/pipelinedp
	@echo "installing PipelineDP beside it …"
	@var/pipelinedp/bin/python -m pip install --quiet --disable-pip-version-check pipeline-dp==0.3.1 python-dp==1.1.5 dill==0.4.1 numpy==2.4.6 scipy==1.17.1
	@touch $@

bench-accuracy: .venv/.dev var/pipelinedp/.done ## one release over 10,000,000 users: how near it comes, beside PipelineDP; writes var/accuracy.json
	@$(BIN)/python -m tests.bench.accuracy --peer var/pipelinedp/bin/python

bench-short: .venv/.dev ## the core alone, against what parsing costs; fails where something became many times slower
	@$(BIN)/python -m tests.bench --short

schemas: .venv/.dev ## write the generated files of schemas/ from the code
	@$(BIN)/python -c 'from pathlib import Path; from pipeline.schema_files import write_schemas; print(*write_schemas(Path("schemas")), sep="\n")'

lock: .venv/.dev ## resolve the dependencies anew
	@$(BIN)/uv pip compile pyproject.toml --extra worker --extra analyst --extra embedded --group build --universal --python-version 3.11 --generate-hashes --quiet --no-header --output-file requirements.lock
	@$(BIN)/uv pip compile pyproject.toml --all-extras --group build --group dev --constraint requirements.lock --universal --python-version 3.11 --generate-hashes --quiet --no-header --output-file requirements-dev.lock

clean: ## remove what the targets made
	rm -rf .venv var

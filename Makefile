# `make` alone prints this menu. CI and pre-commit call the same targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The path of a checkout may have spaces, which separate names for make: targets and functions on names get relative
# paths only, and a recipe gets an absolute path through `quote`.
quote = '$(subst ','\'',$(1))'
PYTHON ?= python3
VENV := .venv
PY := $(call quote,$(CURDIR)/$(VENV)/bin/python)
UV := $(VENV)/bin/uv
NEWMAN := 6.2.2

# The folder of a disease: params.yaml, data, var/ and predicciones.db all live there. Ours is this repository.
PREDECIR_PARAMS ?= params.yaml
PARAMS_FOLDER := $(shell dirname -- $(call quote,$(PREDECIR_PARAMS)))
FOLDER := $(if $(filter /%,$(firstword $(PARAMS_FOLDER))),$(PARAMS_FOLDER),$(CURDIR)/$(PARAMS_FOLDER))
IN_FOLDER = cd $(call quote,$(FOLDER)) && exec $(PY)
export PREDECIR_PACIENTE ?= shared.diseases.thyroid:DatosPaciente
export PYTHONPATH := $(CURDIR):$(FOLDER)

# Prints the elapsed time and the size of the folder $(1) while the rest of the recipe line runs: about every 10 s, of
# which du takes up to 2 s on a busy machine. The loop reads from the recipe's shell, so it ends with that shell, however
# that ends, and does not change its exit code.
PROGRESS_SECONDS := 8
PROGRESS = exec 3> >(while read -rt $(PROGRESS_SECONDS); (($$? > 128)); do \
	echo "environment: $$SECONDS s, $$(du -sh $(1) | cut -f1) installed"; done);

##@ Use
.PHONY: run
run: $(VENV)/.run folder ## Serve on http://127.0.0.1:8000 (PORT=…); installs and trains the first time
	@$(IN_FOLDER) -m training pipeline --unless-served
	@$(IN_FOLDER) -m services.local

.PHONY: train
train: $(VENV)/.run folder ## Run the training pipeline; promote the new model if it passes the gates
	@$(IN_FOLDER) -m training pipeline

.PHONY: params
params: $(VENV)/.run folder ## Write a params.yaml with placeholders for another disease's class, beside it
	@$(IN_FOLDER) -m training params --write

.PHONY: folder
folder:
	@test -d $(call quote,$(FOLDER)) || { \
		echo PREDECIR_PARAMS=$(call quote,$(PREDECIR_PARAMS)): no such folder: $(call quote,$(FOLDER)) >&2; exit 78; }

##@ Containers
.PHONY: up
up: ## Start the server stack on http://127.0.0.1:8000: create secrets once, build, start, wait until healthy
	@PYTHON=$(call quote,$(PYTHON)) deploy/up

.PHONY: down
down: ## Stop the server stack; its volumes keep all data
	@PREDECIR_INFERENCE_KEY=$${PREDECIR_INFERENCE_KEY:-none} docker compose down

.PHONY: up-local
up-local: ## Start one container for a laptop: predicciones.db in var/local/, the model from var/models/
	@deploy/up-local

##@ Develop
.PHONY: test
test: check servers airflow newman schemathesis ## Run checks and all tests; installs the servers (Debian packages, root or sudo), Airflow, newman and schemathesis first
	@$(PY) -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder # half of the time is waiting for processes

.PHONY: test-compose
test-compose: $(VENV)/.dev ## Test the server stack in containers: start, scale, kill, restart (needs docker compose)
	@$(PY) -m pytest tests/compose

.PHONY: test-broker
test-broker: $(VENV)/.dev ## Test the path through RabbitMQ with the image of docker-compose.yml (needs docker, and `make servers`)
	@docker image inspect $(RABBITMQ) >/dev/null 2>&1 || docker pull --quiet $(RABBITMQ)
	@TEST_RABBITMQ_IMAGE=$(RABBITMQ) $(PY) -m pytest --numprocesses=2 --dist=worksteal $(BROKER_TESTS)
RABBITMQ = $(shell sed -n 's/^ *image:.*\(rabbitmq:[^ }]*\).*/\1/p' docker-compose.yml)
BROKER_TESTS := tests/integration/test_broker_path.py tests/integration/test_outbox_reports.py \
	tests/fault/test_broker_faults.py tests/fault/test_broker_restart.py

.PHONY: attack
attack: $(VENV)/.dev schemathesis ## Attack the services and fuzz the parsers; prints what was tried, how often, and what succeeded
	@$(PY) -m pytest --quiet --numprocesses=2 --dist=loadfile tests/security

.PHONY: quick
quick: check ## Run checks and the tests that need no server
	@$(PY) -m pytest tests/unit tests/contract tests/repo

.PHONY: check
check: $(VENV)/.dev ## Check format, lint, types, import rules, spelling, workflows, Kubernetes manifests
	@$(VENV)/bin/ruff format --check --quiet .
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy --no-error-summary .
	@$(VENV)/bin/codespell
	@$(VENV)/bin/actionlint -shellcheck= -pyflakes= .github/workflows/*.yml
	@$(PY) -m deploy.k8s.check
	@output=$$($(VENV)/bin/lint-imports --no-logo) || { echo "$$output"; exit 1; }
	@echo "checks passed"

.PHONY: servers
servers: ## Install the servers that tests start (Debian packages; needs root or sudo)
	@tests/install-servers

.PHONY: airflow
airflow: $(VENV)/.airflow ## Install Airflow into .venv/airflow, for the test of its DAGs

.PHONY: newman
newman: $(VENV)/.newman-$(NEWMAN) ## Install newman into .venv/newman, for the test of the Postman collection

.PHONY: schemathesis
schemathesis: $(VENV)/.schemathesis ## Install schemathesis into .venv/schemathesis, for the attackers' suite

.PHONY: bench
bench: $(VENV)/.dev ## Measure speed, growth and limits, and other model servers; writes docs/benchmarks/ (PARTS=…)
	@BENCH=1 tests/install-servers
	@ls var/models/tiroides/production/manifest.json >/dev/null 2>&1 || $(MAKE) train
	@exec $(PY) -m bench $(or $(PARTS),all)

.PHONY: chaos
chaos: $(VENV)/.dev servers ## Two minutes of faults with 100 kills, then a check for lost answers; writes var/chaos/
	@exec $(PY) -m chaos --report var/chaos/chaos.json

.PHONY: chaos-long
chaos-long: $(VENV)/.dev servers ## Half an hour of faults with 1,000 kills, and the other long proofs; writes docs/proof/ (PARTS=…)
	@exec $(PY) -m chaos.long $(PARTS)

.PHONY: lock
lock: $(VENV)/.dev ## Resolve requirements/*.txt from pyproject.toml, with hashes and without index addresses
	@$(UV) pip compile $(COMPILE) --extra dev pyproject.toml -o requirements/dev.txt
	@$(UV) pip compile $(COMPILE) -c requirements/dev.txt --extra local --extra training pyproject.toml -o requirements/run.txt
	@for service in gateway inference recorder; do \
		$(UV) pip compile $(COMPILE) -c requirements/dev.txt --extra $$service pyproject.toml -o requirements/$$service.txt; done
	@echo mlflow==$$(sed -n 's/^mlflow==\([0-9.]*\).*/\1/p' requirements/dev.txt) boto3 | tr ' ' '\n' | \
		$(UV) pip compile $(COMPILE) - -o requirements/mlflow.txt # boto3 needs an older dateutil than the rest
	@echo 'apache-airflow>=3.3,<3.4' | $(UV) pip compile $(COMPILE) - -o requirements/airflow.txt # needs an older fastapi
	@echo 'schemathesis>=4.32' | $(UV) pip compile $(COMPILE) -c requirements/dev.txt - -o requirements/schemathesis.txt
	@echo uv | $(UV) pip compile $(COMPILE) -c requirements/dev.txt - -o requirements/uv.txt
	@for tool in bench/suites/field/requirements/*.in; do \
		$(UV) pip compile $(COMPILE) -c <(grep -E '^(mlflow|onnxruntime|scikit-learn)==' requirements/dev.txt | tr -d '\\') \
			$$tool -o $${tool%.in}.txt; done # other model servers, in environments of their own
COMPILE := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

.PHONY: audit
audit: $(VENV)/.dev ## Check the locked packages for known vulnerabilities (asks a public database)
	@exec $(PY) -m deploy.audit

.PHONY: sbom
sbom: $(VENV)/.dev ## Build our images; write their bills of materials (CycloneDX) to var/sbom/ (needs docker)
	@images=; for service in $(IMAGES); do images+=" $$service=$$(DOCKER_BUILDKIT=1 docker build --quiet --target $$service .)"; done; \
		exec $(PY) -m deploy.sbom var/sbom $$images
IMAGES := gateway inference recorder local training mlflow

.PHONY: clean
clean: ## Remove the environment and caches; keeps var/ and predicciones.db (patients' data)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

.PHONY: help
help:
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

# The environments. uv installs; if it fails (an index that only pip is configured for), pip does the same, more slowly.
$(VENV)/.uv: requirements/uv.txt
	@$(call quote,$(PYTHON)) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Predecir needs Python 3.11 or newer; $(PYTHON) is older. Choose one with PYTHON=python3.12" >&2; exit 1; }
	@echo "environment: creating $(VENV)"
	@$(call quote,$(PYTHON)) -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/.run $(VENV)/.dev: $(VENV)/.%: requirements/%.txt $(VENV)/.uv
	@echo "environment: installing $$(grep -c == $<) packages into $(VENV): over 1 GB, minutes on a slow line or machine"
	@$(call PROGRESS,$(VENV)) $(UV) pip install --quiet --compile-bytecode --python $(PY) --require-hashes -r $< || { \
		echo "environment: uv failed; trying pip"; $(VENV)/bin/pip install --require-hashes -r $<; }
	@touch $@

# Airflow has an environment of its own: it pins other versions of packages that we use.
$(VENV)/.airflow: requirements/airflow.txt $(VENV)/.uv
	@echo "environment: installing Airflow, $$(grep -c == $<) packages, into $(VENV)/airflow"
	@$(call quote,$(PYTHON)) -m venv $(VENV)/airflow
	@$(call PROGRESS,$(VENV)/airflow) $(UV) pip install --quiet --compile-bytecode --python $(VENV)/airflow/bin/python --require-hashes -r $< || { \
		echo "environment: uv failed; trying pip"; $(VENV)/airflow/bin/pip install --require-hashes -r $<; }
	@touch $@

# schemathesis has an environment of its own: only tests run it, as a command.
$(VENV)/.schemathesis: requirements/schemathesis.txt $(VENV)/.uv
	@echo "environment: installing schemathesis, $$(grep -c == $<) packages, into $(VENV)/schemathesis"
	@$(call quote,$(PYTHON)) -m venv $(VENV)/schemathesis
	@$(UV) pip install --quiet --compile-bytecode --python $(VENV)/schemathesis/bin/python --require-hashes -r $<
	@touch $@

# newman runs docs/postman.json as Postman does. Its packages name exact versions of theirs; npm comes with the servers.
$(VENV)/.newman-$(NEWMAN): | servers $(VENV)/.uv
	@echo "environment: installing newman $(NEWMAN) into $(VENV)/newman"
	@npm install --silent --no-audit --no-fund --no-package-lock --prefix $(VENV)/newman newman@$(NEWMAN)
	@touch $@

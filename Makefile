# Every target makes the environment from the locks first; nothing but Python, make and git is needed.

PYTHON ?= python3
BIN := .venv/bin
export BENTOML_DO_NOT_TRACK := True

.PHONY: help
help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

.PHONY: serve
serve: $(BIN)/.installed ## a local registry, a model in it, and the service on port 8000
	@exec $(BIN)/python quickstart.py

.PHONY: test
test: $(BIN)/.installed ## the tests, on real servers
	$(BIN)/python -m pytest

.PHONY: thorough
thorough: $(BIN)/.installed ## the long tests: failures, logins, kills, estimators, containers, older MLflow
	$(BIN)/python -m pytest -m 'thorough or compat'

# Kubernetes that has all that the manifests use; they are valid for the newest one as well.
OLDEST := 1.30.0

.PHONY: check
check: $(BIN)/.installed ## formatting, lint, types, import rules, locks, shell, YAML, compose, Kubernetes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/yamllint --strict .
	$(BIN)/shellcheck .ci/*
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	.ci/compose-config
	$(BIN)/python tests/support/kustomize.py deploy/kubernetes/base deploy/kubernetes/overlays/production \
		> .venv/manifests.yaml
	$(BIN)/kubernetes-validate --strict --quiet -k $(OLDEST) .venv/manifests.yaml
	$(BIN)/kubernetes-validate --strict --quiet .venv/manifests.yaml
	cp requirements.txt requirements-dev.txt .venv
	$(COMPILE) --output-file .venv/requirements.txt
	$(COMPILE) --output-file .venv/requirements-dev.txt --group dev
	diff requirements.txt .venv/requirements.txt && diff requirements-dev.txt \
		.venv/requirements-dev.txt || { echo 'the locks do not fit pyproject.toml: make lock'; exit 1; }

# BENTOFILE=deploy/bentofile.yaml makes an image without a model.
BENTOFILE := bentofile.yaml
IMAGE := iris-api

.PHONY: container
container: $(BIN)/.installed ## the image iris-api, with the active model in it; needs Docker
	$(BIN)/bentoml build --bentofile $(BENTOFILE)
	labels=$$($(BIN)/python -m deploy.labels) && \
		$(BIN)/bentoml containerize iris_api:latest --image-tag $(IMAGE) $$labels

.PHONY: bench
bench: $(BIN)/.installed ## this service and its peers side by side; needs wrk
	$(BIN)/python -m benchmarks.run

.PHONY: soak
soak: $(BIN)/.installed ## a quarter of an hour of load, promotions and killed workers
	$(BIN)/python -m benchmarks.soak

.PHONY: lock
lock: $(BIN)/.installed ## resolve the dependencies of pyproject.toml anew
	$(COMPILE) --upgrade --output-file requirements.txt
	$(COMPILE) --upgrade --group dev --output-file requirements-dev.txt

COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--no-emit-index-url --custom-compile-command "make lock"

# uv installs in seconds what takes pip a minute; the lock has its version as well.
$(BIN)/.installed: requirements-dev.txt
	@echo '==> installing the locked packages into .venv'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements-dev.txt)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --requirement requirements-dev.txt
	touch $@

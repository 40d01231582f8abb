# Each target first installs the locked packages. It needs Python, make and git, and nothing else.

PYTHON ?= python3
BIN := .venv/bin
export BENTOML_DO_NOT_TRACK := True

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

.PHONY: serve
serve: $(BIN)/.installed ## run a local registry with a model, and the service on port 8000
	@exec $(BIN)/python quickstart.py

.PHONY: test
test: $(BIN)/.installed ## run the tests, on real servers
	$(BIN)/python -m pytest

.PHONY: thorough
thorough: $(BIN)/.installed ## run the long tests: failures, logins, kills, containers, older MLflow
	$(BIN)/python -m pytest -m 'thorough or compat'

# The oldest version of Kubernetes that the manifests work with; the newest one is checked as well.
OLDEST := 1.30.0

.PHONY: check
check: $(BIN)/.installed ## check format, types, import rules, locks, shell, YAML, compose, Kubernetes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/yamllint --strict .
	$(BIN)/shellcheck .ci/*
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	.ci/compose-config
	for folder in base overlays/production; do \
		$(BIN)/kubectl kustomize deploy/kubernetes/$$folder > .venv/manifests.yaml || exit 1; \
		$(BIN)/kubernetes-validate --strict --quiet -k $(OLDEST) .venv/manifests.yaml || exit 1; \
		$(BIN)/kubernetes-validate --strict --quiet .venv/manifests.yaml || exit 1; \
	done
	cp requirements.txt requirements-dev.txt .venv
	$(COMPILE) --output-file .venv/requirements.txt
	$(COMPILE) --output-file .venv/requirements-dev.txt --group dev
	diff requirements.txt .venv/requirements.txt && diff requirements-dev.txt \
		.venv/requirements-dev.txt || { echo 'error: the locks do not match pyproject.toml; run make lock'; exit 1; }

# BENTOFILE=deploy/bentofile.yaml builds an image without a model.
BENTOFILE := bentofile.yaml
IMAGE := iris-api

.PHONY: container
container: $(BIN)/.installed ## build the image iris-api with the active model; needs Docker
	$(BIN)/bentoml build --bentofile $(BENTOFILE)
	labels=$$(PYTHONPATH=. $(BIN)/python deploy/labels.py) && \
		$(BIN)/bentoml containerize iris_api:latest --image-tag $(IMAGE) $$labels
	@echo '==> to run it, as BentoML does not know its port: docker run -p 8000:8000 $(IMAGE)'

.PHONY: bench
bench: $(BIN)/.installed ## measure this service and its peers side by side; needs wrk
	$(BIN)/python -m benchmarks.run

.PHONY: ablation
ablation: $(BIN)/.installed ## this service without each of its parts, and plain BentoML; needs wrk
	$(BIN)/python -m benchmarks.ablation

.PHONY: soak
soak: $(BIN)/.installed ## run a quarter of an hour of load, promotions and killed workers
	$(BIN)/python -m benchmarks.soak

# Chromium's sandbox does not run as root.
.PHONY: screenshot
screenshot: ## draw the README's picture of the page that make serve shows; needs Chromium
	chromium --headless $$([ "$$(id -u)" != 0 ] || echo --no-sandbox) --hide-scrollbars \
		--window-size=1200,760 --force-device-scale-factor=1.5 --virtual-time-budget=5000 \
		--screenshot=docs/images/page.png http://127.0.0.1:8000/

.PHONY: lock
lock: $(BIN)/.installed ## resolve the dependencies of pyproject.toml again
	$(COMPILE) --upgrade --output-file requirements.txt
	$(COMPILE) --upgrade --group dev --output-file requirements-dev.txt

COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--no-emit-index-url --custom-compile-command "make lock"

# uv takes seconds where pip takes a minute; its version is in the lock as well.
$(BIN)/.installed: requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: Python " + sys.version.split()[0] + " is too old; install 3.11 or later and run make PYTHON=python3.11 ...")'
	@echo '==> installing the locked packages into .venv'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements-dev.txt)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --requirement requirements-dev.txt
	touch $@

# Everything one does with a checkout. The environment lives in .venv and is made anew when the lock changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
AXE := tests/browser/node_modules/axe-core/axe.min.js
RUNS := .venv/runs
DOCS := .docs
WANTED := "$(PYTHON)" -c 'import sys; v = sys.version_info; \
	v >= (3, 11) or sys.exit("Python 3.11 or later is wanted, this is %d.%d.%d: make PYTHON=..." % v[:3])'
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate

.PHONY: help run test test-long test-pythons test-real test-install test-modern test-web pictures dist image pages docs version torture races crashes differential fuzz simulate lint format bench bench-attacks bench-start lock clean
help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 15

run: $(RUNS)  ## start a mirror of Docker Hub on 127.0.0.1:5000, its data in ./data
	@$(BIN)/mirror serve

test: $(READY)  ## run the tests that need Python packages only
	@$(BIN)/pytest tests --ignore tests/real --ignore tests/install --ignore tests/modern --ignore tests/browser -n 4 --dist worksteal

test-long: $(READY)  ## run the tests that draw examples, with many more of them (hours)
	@$(BIN)/pytest $$(grep -rl 'from hypothesis' tests --include 'test_*.py') \
		--hypothesis-profile=search --timeout 7200 -n 4 --dist worksteal

test-pythons: $(READY)  ## run them on each Python from 3.11 on this machine, in .pythons: TESTS=tests/budget
	@$(BIN)/python -m tests.pythons $(TESTS)

test-real: $(READY)  ## pull with dockerd, containerd, podman and skopeo (as root, from Debian's packages)
	@$(BIN)/pytest tests/real

test-install: $(READY)  ## install it in each documented way, and use it (as root; needs mmdebstrap)
	@$(BIN)/pytest tests/install

test-modern: $(READY)  ## build newer clients from their Go modules into .modern (once: half an hour), and pull with each
	@$(BIN)/python -m tests.modern && $(BIN)/pytest tests/modern

test-web: $(READY) $(AXE)  ## look at the page with Debian's Chromium (needs chromium, chromium-driver and npm)
	@$(BIN)/pytest tests/browser

pictures: $(READY) $(AXE)  ## take the pictures of the page that the documentation shows
	@PICTURES=docs/pictures $(BIN)/pytest -q tests/browser/test_pictures.py

torture: $(READY)  ## pull through faults, kills and evictions: MINUTES=1, SEED= and ROUNDS= to replay, ONLY=401
	@$(BIN)/python -m tests.torture --minutes $(or $(MINUTES),1) $(if $(SEED),--seed $(SEED)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(ONLY),--only $(ONLY))

races: $(READY)  ## permute awaits and threads under the daemon: MINUTES=1 or PLAYS=, SEED=, REPLAY=7.12
	@PYTHONHASHSEED=0 $(BIN)/python -m tests.races --minutes $(or $(MINUTES),1) $(if $(SEED),--seed $(SEED)) \
		$(if $(PLAYS),--plays $(PLAYS)) $(if $(REPLAY),--replay $(REPLAY) --trace)

crashes: $(READY)  ## kill it at every system call (strace): all of them, or MINUTES=1 or CASES=, SEED=, CASE=
	@$(BIN)/python -m tests.crashes $(if $(CASE),--case $(CASE),$(if $(MINUTES)$(CASES),--minutes $(or $(MINUTES),1),--all)) \
		$(if $(CASES),--cases $(CASES)) $(if $(SEED),--seed $(SEED))

differential: $(READY)  ## pull from odd upstreams, directly and through the mirror: MINUTES=60, SEED=
	@$(BIN)/python -m tests.differential --minutes $(or $(MINUTES),1) $(if $(SEED),--seed $(SEED))

fuzz: $(READY)  ## let hostile clients and upstreams speak: MINUTES=1, SEED=, FIRST= and ROUNDS= to replay
	@$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),1) $(if $(SEED),--seed $(SEED)) $(if $(FIRST),--first $(FIRST)) \
		$(if $(ROUNDS),--rounds $(ROUNDS))

simulate: $(READY)  ## weeks of a fleet against a model of the pull limit: DAYS=14, SEED=7
	@$(BIN)/python -m tests.simulation $(if $(DAYS),--days $(DAYS)) $(if $(SEED),--seed $(SEED))

lint: $(READY)  ## style, types and the import contract
	@$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy && $(BIN)/lint-imports --no-cache

format: $(READY)  ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix && $(BIN)/ruff format

bench: $(READY)  ## measure beside Debian's docker-registry; the result goes to bench/
	@$(BIN)/python -m bench

bench-attacks: $(READY)  ## measure what others wait for under attack, beside two registries; goes to bench/
	@$(BIN)/python -m bench.attacks

bench-start: $(READY)  ## measure the set-up, commands, and the way to a second pull (as root; half an hour)
	@$(BIN)/python -m bench.start

dist: $(READY)  ## build wheel, sdist and Debian package into dist/
	@rm -rf dist && $(BIN)/python -m build --outdir dist . >/dev/null
	@deploy/debian/build.sh $(BIN)/python dist/*.whl dist && ls dist

image: $(READY)  ## build the image into dist/, without an engine (as root; needs mmdebstrap and buildah)
	@deploy/image.sh $(BIN)/python dist && ls dist

pages: $(RUNS)  ## write the pages of docs/ that are made from the code
	@$(BIN)/python docs/commands.py >docs/made && mv docs/made docs/commands.md
	@$(BIN)/python docs/apis.py registry >docs/made && mv docs/made docs/registry-api.md
	@$(BIN)/python docs/apis.py operators >docs/made && mv docs/made docs/api-records.md

docs: $(DOCS)/ready  ## build the documentation as a site into build/docs, without the network
	@rm -rf build/docs  # menus of unchanged pages would stay as they were
	@$(DOCS)/bin/sphinx-build -q -W --keep-going -b html docs build/docs
	@echo "build/docs/index.html"

version:  ## name the next version in each file that has it: VERSION=0.2.0
	@test -n "$(VERSION)" || { echo "VERSION=0.2.0, say, is wanted"; exit 2; }
	@sed -i 's/^__version__ = .*/__version__ = "$(VERSION)"/' mirror/__init__.py
	@sed -i -E 's/^(version|appVersion): .*/\1: $(VERSION)/' deploy/chart/Chart.yaml
	@sed -i -E 's|^( +image: mirror):.*|\1:$(VERSION)|' deploy/kubernetes/*.yaml
	@sed -i "s/^## \[Unreleased\]$$/&\n\n## [$(VERSION)] - $$(date +%F)/" CHANGELOG.md

lock: $(READY)  ## renew the lock files from pyproject.toml
	@$(PIP) uv
	@$(LOCK) pyproject.toml -o requirements.lock
	@$(LOCK) pyproject.toml --all-extras --group dev -c requirements.lock -o requirements-dev.lock
	@$(LOCK) --group docs -o requirements-docs.lock

clean:  ## remove the environment and caches, keep the data
	rm -rf tests/browser/node_modules .venv .docs .pythons build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(RUNS): requirements.lock pyproject.toml
	@$(WANTED)
	@echo "setting up .venv: $$(grep -c == requirements.lock) packages, 10 to 30 seconds, once"
	@$(PYTHON) -m venv .venv
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --editable .
	@touch $(RUNS)

$(AXE): tests/browser/package-lock.json
	@npm ci --silent --no-audit --no-fund --prefix tests/browser
	@touch $(AXE)

$(READY): requirements-dev.lock pyproject.toml
	@$(WANTED)
	@echo "setting up .venv for development: $$(grep -c == requirements-dev.lock) packages, a minute or two, once"
	@$(PYTHON) -m venv .venv
	@$(PIP) --require-hashes -r requirements-dev.lock
	@$(PIP) --no-deps --editable .
	@touch $(READY) $(RUNS)

$(DOCS)/ready: requirements-docs.lock
	@$(WANTED)
	@echo "setting up $(DOCS): $$(grep -c == requirements-docs.lock) packages, 20 seconds, once"
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $(DOCS)/ready

PYTHON ?= python3
BIN := .venv/bin
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
IMAGE ?= migrate
BUILD ?= # further options of docker build
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' migrator/__init__.py)
REVISION = $(shell git rev-parse HEAD 2>/dev/null)

.PHONY: demo test test-full lint snapshot image bench clean

demo: .venv/ready  ## the main job on throwaway local servers: the gate open, then closed by a drift
	$(BIN)/python -m tests.demo

# Some tests measure seconds, on a machine that may be busy: what failed is run once more, alone; what fails twice fails.
test: .venv/ready  ## every test, with real servers and a real Docker engine; the long ones as a sample
	$(BIN)/python -m pytest -n 2 || $(BIN)/python -m pytest --last-failed --last-failed-no-failures none

test-full: .venv/ready  ## the long ones in full
	MIGRATE_TEST_FULL=1 $(BIN)/python -m pytest -n 2

lint: .venv/ready
	$(BIN)/ruff check . && $(BIN)/mypy

snapshot: .venv/ready  ## regenerate sql/expected.*.json from a fresh apply
	$(BIN)/python -m tests.snapshot

image: ## the image, as $(IMAGE), and the list of all that is in it, build/migrate.cdx.json (CycloneDX)
	docker build $(BUILD) --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --tag $(IMAGE) .
	docker build $(BUILD) --target sbom --output build .

bench: .venv/ready
	$(BIN)/python -m tests.bench

# Hashes are checked and nothing is resolved: what runs here is what runs everywhere.
.venv/ready: requirements.lock requirements-test.lock
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { $(SUDO) apt-get -q update && $(SUDO) apt-get -q install -y --no-install-recommends python3-venv; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes \
		-r requirements.lock -r requirements-test.lock
	@touch $@

clean:
	rm -rf .venv .cache .pytest_cache .hypothesis .ruff_cache .mypy_cache build

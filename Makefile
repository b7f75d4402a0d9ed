# Everything a newcomer or CI needs. Each target does its own set-up.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test lint types imports unit fuzz mutants bench deb lock clean

demo: $(READY)            ## watch webhooks turn into conversations with names
	$(BIN)/inboxd demo

test: lint types imports unit  ## everything CI runs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports --no-cache

# The tests start hundreds of processes: modules are compiled once, also where the environment forbids that.
unit: export PYTHONDONTWRITEBYTECODE :=
unit: $(READY)
	$(BIN)/pytest --numprocesses auto --dist worksteal

fuzz: $(READY)            ## ten minutes of odd input, other than last time; FUZZ="--only api --seed 1" for less
	$(BIN)/python -m tests.fuzz --seconds 600 $(FUZZ)

mutants: $(READY)         ## whether the tests notice a change of each risky line (twenty minutes)
	$(BIN)/python -m tests.mutants

bench: $(READY)           ## the measurements of docs/performance.md
	$(BIN)/python benchmarks/ingest.py
	$(BIN)/python benchmarks/budget.py
	$(BIN)/python -m benchmarks.backfill
	$(BIN)/python -m benchmarks.history
	$(BIN)/python -m benchmarks.admin
	$(BIN)/python -m benchmarks.forwarding
	$(BIN)/python -m benchmarks.healing
	$(BIN)/python -m benchmarks.sending

deb: $(READY)             ## dist/inboxd_*.deb, for the release of Debian that this is (needs debhelper)
	packaging/build-deb

$(READY): requirements-dev.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

lock:                     ## re-pin the dependencies (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade --extra nats pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --upgrade --extra nats pyproject.toml --group dev -o requirements-dev.lock

clean:
	rm -rf build dist $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz

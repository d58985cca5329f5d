# The commands of the project, the same by hand and in CI. `make help` lists them.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# What is given after the target's own arguments, for instance: make up ARGS="--no-sample"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help venv clients up test test-kafka check lint types layers soak attack grow fuzz bench scale clean

help:           ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 20

venv: $(STAMP)  ## make .venv with everything in it (quick the second time)

$(STAMP): pyproject.toml client/pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no python3 found; Sullae needs Python 3.11 or later" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is not Python 3.11 or later; say which to use: make PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,check]' --editable client
	@touch $@

# Clients that nobody here wrote, each in an environment of its own (tests/clients). One that cannot be made, without
# a network for instance, is said and left out: its tests are skipped and say so too.
clients: .venv-scylla/.installed .venv-cqlsh/.installed  ## environments of scylla-driver and cqlsh, for the tests

.venv-%/.installed: tests/clients/%.txt | $(STAMP)
	@rm -rf .venv-$*
	@{ $(BIN)/python -m venv .venv-$* && .venv-$*/bin/python -m pip install --quiet --disable-pip-version-check \
		--only-binary :all: -r $< && touch $@; } || echo "make: no .venv-$*: tests that need it are skipped" >&2

# exec: Ctrl-C and signals reach sullae itself, which stops its peers and says so. Make's own complaint about a
# command ended by Ctrl-C is not ours to prevent; sullae then exits with 0.
up: $(STAMP)    ## start the cluster of cluster.yml and load the sample; Ctrl-C stops it
	@exec $(BIN)/sullae up $(ARGS)

# Two workers: one for what starts processes, one for the rest (tests/conftest.py).
test: $(STAMP) clients ## run the tests
	@exec $(BIN)/python -m pytest -n 2 $(ARGS)

# A real broker, of jars that Maven brings: nothing that users install. The rest of the tests does without.
KAFKA := build/kafka
test-kafka: $(STAMP) $(KAFKA)/.fetched ## a sink into a real Kafka that is killed; needs Java and Maven
	@SULLAE_KAFKA_LIBS=$(CURDIR)/$(KAFKA) exec $(BIN)/python -m pytest tests/kafka $(ARGS)

$(KAFKA)/.fetched: tests/kafka/pom.xml
	@command -v java mvn >/dev/null || { echo "make: test-kafka needs java and mvn" >&2; exit 1; }
	mvn --quiet --batch-mode --file $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(KAFKA)
	@touch $@

check: lint types layers ## the three below

lint: $(STAMP)  ## ruff
	$(BIN)/ruff check .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy .

layers: $(STAMP) ## imports only point down
	$(BIN)/lint-imports

soak: $(STAMP)  ## hours of simulated cluster time over fresh seeds, real peers that grow, 100,000 damaged inputs
	@$(BIN)/python -m jepsen_like.soak $(ARGS)
	@$(MAKE) --no-print-directory grow
	@$(MAKE) --no-print-directory fuzz

attack: $(STAMP) ## runs of five real processes under all faults, one after another, into the ledger
	@exec $(BIN)/python -m jepsen_like.real.campaign $(ARGS)

grow: $(STAMP)  ## three real peers become six and three again, under load and kills
	@SULLAE_GROW=1 exec $(BIN)/python -m pytest -q -s tests/process/test_growing.py

fuzz: $(STAMP)  ## 100,000 damaged inputs to each port and to the parser
	@SULLAE_FUZZ_INPUTS=100000 SULLAE_FUZZ_SEED=$${SEED:-8} exec $(BIN)/python -m pytest -q -k fuzz tests/server tests/cql_lite

bench: $(STAMP) ## measure a real cluster on this machine
	@exec $(BIN)/python -m bench $(ARGS)

scale: $(STAMP) ## 1,000 simulated peers; writes the figures of docs/scale.md
	@$(BIN)/python -m bench.scale $(ARGS)
	@$(BIN)/python -m bench.scale_moves

clean:          ## remove what was built, never data
	rm -rf $(VENV) .venv-scylla .venv-cqlsh build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info client/src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

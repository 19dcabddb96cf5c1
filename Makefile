# install: .venv/ with the command `fabric` in it.   demo: the whole thing, live.   test: all of it.
#
# Needs Python 3.11-3.13 and make; everything else is set up here, from requirements.lock.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo demo-zookeeper test lint lock clean compiled mutants campaign-determinism campaign-tree fidelity

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml .ci/make_venv.sh
	sh .ci/make_venv.sh $(PYTHON) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: install
	$(BIN)/fabric demo

# The same, with the topology on three ZooKeeper servers that it starts and ends.
demo-zookeeper: install
	sh .ci/zookeeper.sh
	$(BIN)/fabric demo --zookeeper

lint: install
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	sh .ci/zookeeper.sh
	$(BIN)/python -m pytest tests
	$(BIN)/python .ci/check_wheel.py

# The simulator's core as C, in build/compiled: `fabric sim run --compiled`. Optional.
compiled: install
	$(BIN)/python -m sim.compiled

# Plants realistic bugs one at a time; the simulator must notice them. Writes sim/MUTANTS.md.
mutants: install
	$(BIN)/python -m sim.mutants --write --json

# 200 seeds under two hash seeds, plain and (once `make compiled` was run) compiled: all the same?
# Interrupted, it goes on where it was.
campaign-determinism: install
	$(BIN)/fabric sim diverge --seeds 0..199 --dir build/campaign-determinism --json

# 2,000 seeds of small fabrics under every kind of fault. Interrupted, the same command goes on.
campaign-tree: install
	$(BIN)/fabric sim fuzz --seeds 0..1999 --dir build/campaign-tree --json

# The simulator against 50 real peers over ZeroMQ. Writes sim/FIDELITY.md; eight minutes.
fidelity: install
	$(BIN)/python -m benchmarks.fidelity --write --json

# Pins what the newest allowed versions are now. Edit pyproject.toml first, then review the diff.
lock: install
	$(BIN)/python .ci/lock.py > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

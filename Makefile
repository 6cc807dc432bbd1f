# make train | make test | make quick | make lint | make dist.  PYTHON chooses the interpreter (>= 3.10).
PYTHON ?= python3
VENV ?= .venv
ENV ?= MountainCarContinuous-v0
SEED ?= 0
BIN := $(VENV)/bin

.PHONY: train test quick lint dist clean

train: $(VENV)/.zoo
	$(BIN)/rl_zoo3 train --algo ddpg_ext --env $(ENV) --seed $(SEED) --eval-freq -1 -f logs --progress
	$(BIN)/python -m sb3_ddpg_ext report --env $(ENV) -f logs --png results/$(ENV).png --gif results/$(ENV).gif

test: lint $(VENV)/.tests
	$(BIN)/python -m pytest -n 2

quick: $(VENV)/.tests
	$(BIN)/python -m pytest -n 2 -m "not slow"

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

dist: $(VENV)/.tests
	$(BIN)/python -m build

# The tried set is in constraints.txt. A stamp file says which extra is installed.
$(VENV)/.%: setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info

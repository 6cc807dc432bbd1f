# make train | film | test | quick | lint | docs | figures | dist | rows | results | pictures | bench.
# PYTHON chooses the interpreter (>= 3.10), ENV the task, STEPS its length, EXTRAS what it needs:
# make train ENV=HalfCheetah-v5 STEPS=100000 EXTRAS=zoo,mujoco
PYTHON ?= python3
VENV ?= .venv
ENV ?= MountainCarContinuous-v0
EXTRAS ?= zoo
ALGO ?= ddpg_ext
SEED ?= 0
SEEDS ?= 0 1 2 3 4 5 6 7 8 9
STEPS ?= -1
LOGS ?= logs
BIN := $(VENV)/bin
# One thread: these networks are too small for more. No evaluation on the way: the report evaluates what comes out.
TRAIN = $(BIN)/rl_zoo3 train --algo $(ALGO) --env $(ENV) -conf hyperparams/ddpg_ext.yml -n $(STEPS) --num-threads 1 --eval-freq -1 -f $(LOGS)
REPORT = $(BIN)/python -m sb3_ddpg_ext report --algo $(ALGO) --env $(ENV) -f $(LOGS)

BENCH = $(BIN)/python -m sb3_ddpg_ext bench --libraries ours sb3 sbx --steps 400
PLOT = $(BIN)/python -m sb3_ddpg_ext plot

.PHONY: train film rows results pictures bench test quick lint docs figures dist clean

train: $(VENV)/.$(EXTRAS)
	$(BIN)/rl_zoo3 train --algo $(ALGO) --env $(ENV) --seed $(SEED) -n $(STEPS) --num-threads 1 --eval-freq -1 -f $(LOGS) --progress
	$(REPORT) --png $(LOGS)/$(ENV).png --gif $(LOGS)/$(ENV).gif

# The README's verdict line, row, learning curve and film, of one run.
film: train
	$(REPORT) --csv results/$(ENV).csv --png results/$(ENV).png --gif results/$(ENV).gif

# The rows behind the table in docs/results.md, appended to results/ENV.csv. ALGO=ddpg takes SB3's own class.
rows: $(VENV)/.$(EXTRAS)
	for seed in $(SEEDS); do $(TRAIN) --seed $$seed --verbose 0 && $(REPORT) --csv results/$(ENV).csv || exit; done

# Every table of the documentation, from the CSV and JSON files in results/.
results: $(VENV)/.zoo
	$(BIN)/python -m sb3_ddpg_ext tables

# Every picture that such a file stands behind.
pictures: $(VENV)/.zoo
	set -e; for csv in results/exploration_*.csv; do $(PLOT) results $$csv --png $${csv%.csv}.png; done
	set -e; for env in Hopper-v5 Walker2d-v5 replay_HalfCheetah-v5 replay_Walker2d-v5 memory_PendulumNoVel-v1 memory_LunarLanderContinuousNoVel-v3; do \
		$(PLOT) curves results/curves_$$env.csv --png results/curves_$$env.png --title $${env##*_}; done
	$(PLOT) curves results/curves_her_PandaPush-v3.csv --success --png results/curves_her_PandaPush-v3.png --title PandaPush-v3
	set -e; for env in Pendulum-v1 cheetah-run; do $(PLOT) curves results/paper_$$env.csv --png results/paper_$$env.png --title $$env; done
	set -e; for name in bench bench_defaults bench_amd bench_options bench_buffers bench_profile; do $(PLOT) bench results/$$name.json --png results/$$name.png; done
	set -e; for runs in $(wildcard results/studies/*/runs.csv); do $(PLOT) study $$(dirname $$runs); done

# The speed tables of docs/speed.md: ours, SB3 and SBX, interleaved. Half an hour of an idle machine.
bench: $(VENV)/.zoo,mujoco,bench
	$(BENCH) --json results/bench.json --png results/bench.png
	$(BENCH) --threads default --json results/bench_defaults.json --png results/bench_defaults.png

test: lint $(VENV)/.tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

quick: $(VENV)/.tests
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in docs/_build/html. Warnings are errors, and so is a link that leads nowhere.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# How deep the classes are, how often the code asks for a type, and the like.
figures: $(VENV)/.tests
	$(BIN)/python tests/measures.py

dist: $(VENV)/.tests
	$(BIN)/python -m build

# The tried set is in constraints.txt. A stamp file says which extra is installed.
$(VENV)/.%: setup.cfg setup.py pyproject.toml constraints.txt $(wildcard sb3_ddpg_ext/native/source/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip  # older ones take minutes to choose versions
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info

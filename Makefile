# make train [DATASET=mars] [MANUAL_DIR=path] [WORKDIR=runs/mars] [ARGS="--preset small"]
PYTHON ?= python3
DATASET ?= walkers
MANUAL_DIR ?=
WORKDIR ?= runs/$(DATASET)
DATA_DIR ?= data
ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
MANUAL := $(if $(MANUAL_DIR),--manual-dir "$(MANUAL_DIR)")

.PHONY: train eval sweep paper paper-small tables bench data test test-slow lint clean help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/'

$(VENV)/.run: pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[efficientnet]"
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[efficientnet,dev]"
	touch $@

train: $(VENV)/.run  ## prepare the data set, train, evaluate
	$(RUN) -m experiments.train --dataset $(DATASET) --data-dir "$(DATA_DIR)" $(MANUAL) --workdir "$(WORKDIR)" $(ARGS)

eval: $(VENV)/.run  ## score the run in WORKDIR again
	$(RUN) -m experiments.evaluate --workdir "$(WORKDIR)" $(ARGS)

sweep: WORKDIR = runs/sweep-$(DATASET)
sweep: $(VENV)/.run  ## train every combination, as ARGS="--kernels 1 3 5 --layers 2 3"; tables and pictures
	$(RUN) -m experiments.sweep --dataset $(DATASET) --data-dir "$(DATA_DIR)" $(MANUAL) --workdir "$(WORKDIR)" $(ARGS)

paper: $(VENV)/.run  ## the paper's tables and figures of the finished run in WORKDIR
	$(RUN) -m experiments.paper --workdir "$(WORKDIR)" $(ARGS)

paper-small: $(VENV)/.run  ## all of the paper's tables and figures on walkers, at a size for two cores
	$(RUN) -m experiments.paper --workdir "$(WORKDIR)" --small $(ARGS)
	$(RUN) -m experiments.tables --runs "$$(dirname "$(WORKDIR)")"

tables: $(VENV)/.run  ## collect all finished runs, tables and figures in docs/results.md
	$(RUN) -m experiments.tables $(ARGS)

bench: $(VENV)/.dev  ## measure everything beside PyTorch, where that is installed; docs/performance.md
	$(RUN) -m benchmarks $(ARGS)

data: $(VENV)/.run  ## prepare DATASET and print its counts
	$(RUN) -m experiments.prepare --dataset $(DATASET) --data-dir "$(DATA_DIR)" $(MANUAL) $(ARGS)

test: $(VENV)/.dev  ## the tests
	$(RUN) -m pytest --numprocesses auto --dist loadfile --max-worker-restart 0 $(ARGS)

test-slow: $(VENV)/.dev  ## the tests that take half a minute or longer each
	$(RUN) -m pytest -m slow $(ARGS)

lint: $(VENV)/.dev  ## ruff: style and formatting
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

clean:  ## remove the environment and what Python left behind; data/ and runs/ stay
	rm -rf $(VENV) *.egg-info build .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Every target that needs the virtual environment makes it, and brings it up to date when pyproject.toml or the
# constraints have changed. Development tools are installed by the targets that use them: test…, check.
#   make PYTHON=python3.12 setup    another Python
#   make setup PIP_ARGS=…           options of pip, as for PyTorch's CPU build (README.md)
#   make setup CONSTRAINTS=         the newest versions that fit, not those behind the published numbers
#   make VENV=~/envs/repro test     another folder for the environment
#   make TEST_WORKERS=8 test        more processes for the tests

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
CONSTRAINTS ?= constraints.txt
TEST_WORKERS ?= 2

READY := $(VENV)/.repro-ready
DEV := $(VENV)/.repro-dev-ready
PIP_INSTALL = $(VENV)/bin/python -m pip install $(addprefix --constraint ,$(CONSTRAINTS)) $(PIP_ARGS)
REPRO := $(VENV)/bin/python -m repro

.DEFAULT_GOAL := help
TABLES := $(addprefix table,1 2 3 4 5 6 7 8 9 10 11 12 13 14)
FIGURES := $(addprefix figure,1 4 6 7)

.PHONY: help setup demo tenth paper-cifar bench test test-fast test-faults test-slurm check $(TABLES) $(FIGURES) tables figures report verify claims
.PHONY: tensorboard clean

help:  ## this list
	@awk -F ':.*## ' '/^[A-Za-z0-9$$()-]+:.*## / { sub(/\$$\(TABLES\)/, "table1…14", $$1); \
	  sub(/\$$\(FIGURES\)/, "figure1,4,6,7", $$1); printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY)  ## the virtual environment with everything in it
	@echo "Ready: source $(VENV)/bin/activate, then repro --help"

demo: $(READY)  ## in minutes on a laptop: plain and residual nets at two depths, then the figure
	@if $(REPRO) data fetch cifar10; then data=cifar10; else data=synthetic; \
	  echo "CIFAR-10 could not be had (see above): the demo goes on with the built-in images."; fi; \
	$(REPRO) run exp=cifar_residual_vs_plain scale=demo data=$$data
	@$(REPRO) figure 6 --scale demo --unpublished
	@echo "Look at the training errors: plain-56 stays far above plain-20, ResNet-56 close to ResNet-20. After so few steps"
	@echo "that is a deep plain net that cannot get started, not yet the degradation of converged nets that the paper reports:"
	@echo "that takes 64,000 steps a net (repro show exp=cifar_degradation)."

TENTH := scale=tenth model.shortcut=none,A model.depth=20,32,44

tenth: $(READY)  ## hours on a laptop: plain and residual nets at a tenth of the budget, then the figure; run again to resume
	@$(REPRO) show $(TENTH)
	@$(REPRO) run $(TENTH)
	@$(REPRO) figure 6 --scale tenth

paper-cifar: $(READY)  ## GPU-days: every CIFAR-10 run of the paper, in the order of its worth; the same command goes on
	@$(REPRO) show exp=cifar_paper
	@$(REPRO) run exp=cifar_paper

bench: $(READY)  ## in under a minute: how fast this machine trains, beside the loop of public CIFAR scripts
	@$(REPRO) bench --quick

test: $(DEV)  ## the tests
	@$(VENV)/bin/python -m pytest -n $(TEST_WORKERS)

test-fast: $(DEV)  ## in a minute: the tests that need neither training nor processes
	@$(VENV)/bin/python -m pytest -n $(TEST_WORKERS) -m "not slow" $(addprefix tests/,config data models papers results)

test-faults: $(DEV)  ## up to 15 minutes: fifty kills at random moments, each ending with the undisturbed bits
	@REPRO_FAULTS=50 $(VENV)/bin/python -m pytest tests/engine/test_faults.py

test-slurm: $(DEV)  ## minutes: a sweep on a real Slurm of two nodes on this machine (needs slurm-wlm and munge)
	@$(VENV)/bin/python -m pytest -m slurm tests/launch/test_slurm.py

check: $(DEV)  ## style, types and layers
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

$(TABLES): $(READY)  ## a table of the paper: its values and the measured ones
	@$(REPRO) table $(@:table%=%)

$(FIGURES): $(READY)  ## a figure of the paper, from the measured curves
	@$(REPRO) figure $(@:figure%=%)

claims: $(READY)  ## every claim of the paper with a verdict
	@$(REPRO) check

tables: $(READY)  ## all tables and claims anew into results/, from the published records
	@$(REPRO) render tables

figures: $(READY)  ## all figures anew into results/figures
	@$(REPRO) render figures

report: $(READY)  ## everything on one page: results/report.html
	@$(REPRO) render report

verify: $(READY)  ## fails where a published table, figure or page is not what the records give
	@$(REPRO) render --verify

tensorboard: $(READY)  ## the curves of all runs in a browser
	@$(REPRO) tensorboard

clean:  ## removes caches and build outputs; environment, data and results stay
	@rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find repro tests -name __pycache__ -type d -prune -exec rm -rf {} +

# pyproject.toml asks for torch and torchvision in one go, so that the installer picks a matching pair.
$(READY): pyproject.toml $(CONSTRAINTS)
	@command -v $(PYTHON) >/dev/null || \
	  { echo "There is no $(PYTHON) on the PATH: name a Python 3.11 or newer, as in make PYTHON=python3.12 setup" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11: name a newer one, as in make PYTHON=python3.12 setup" >&2; exit 1; }
	@[ -x $(VENV)/bin/pip ] || $(PYTHON) -m venv $(VENV) || \
	  { echo "$(PYTHON) cannot make a virtual environment: install its venv module (on Debian: python3-venv)" >&2; exit 1; }
	@echo "Installing into $(VENV), once, some minutes. On Linux PyTorch brings its GPU libraries: 3 GB to download, 6 GB on" >&2
	@echo "disk. Without an NVIDIA GPU stop here and take its CPU build, a tenth of that: README.md has the line." >&2
	@$(PIP_INSTALL) --editable . >&2
	@touch $@

$(DEV): $(READY)
	@echo "Installing the development tools into $(VENV): about 100 MB" >&2
	@$(PIP_INSTALL) --editable '.[dev]' >&2
	@touch $@

# Every target that needs the virtual environment creates it, and updates it when pyproject.toml or the constraints have
# changed. Development tools are installed by the targets that use them: test…, check.
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
PAPER ?=

READY := $(VENV)/.repro-ready
DEV := $(VENV)/.repro-dev-ready
PIP_INSTALL = $(VENV)/bin/python -m pip install $(addprefix --constraint ,$(CONSTRAINTS)) $(PIP_ARGS)
REPRO := $(VENV)/bin/python -m repro

.DEFAULT_GOAL := help
TABLES := $(addprefix table,1 2 3 4 5 6 7 8 9 10 11 12 13 14)
FIGURES := $(addprefix figure,1 4 6 7)

.PHONY: help setup demo tenth paper-cifar paper bench test test-fast test-faults test-slurm check lock $(TABLES) $(FIGURES) tables figures report verify claims
.PHONY: tensorboard clean

help:  ## show this list
	@awk -F ':.*## ' '/^[A-Za-z0-9$$()-]+:.*## / { sub(/\$$\(TABLES\)/, "table1-14", $$1); \
	  sub(/\$$\(FIGURES\)/, "figure1,4,6,7", $$1); printf "make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY)  ## create the virtual environment and install everything
	@echo "Ready: source $(VENV)/bin/activate, then repro --help"

demo: $(READY)  ## train plain and residual nets at two depths and draw the figure (minutes on a laptop)
	@if $(REPRO) data fetch cifar10; then data=cifar10; else data=synthetic; \
	  echo "CIFAR-10 could not be downloaded (see above): the demo continues with the built-in images."; fi; \
	$(REPRO) run exp=cifar_residual_vs_plain scale=demo data=$$data
	@$(REPRO) figure 6 --scale demo --unpublished
	@echo "Look at the training errors: plain-56 stays far above plain-20, but ResNet-56 is close to ResNet-20. After so few"
	@echo "steps this shows that a deep plain net fails to start training. The paper reports the degradation of converged nets,"
	@echo "which takes 64,000 steps per net (repro show exp=cifar_degradation)."
	@echo "Your runs beside the published ones:"; $(REPRO) report --own

TENTH := scale=tenth model.shortcut=none,A model.depth=20,32,44

tenth: $(READY)  ## train plain and residual nets at a tenth of the budget (hours on a laptop; run again to resume)
	@$(REPRO) show $(TENTH)
	@$(REPRO) run $(TENTH)
	@$(REPRO) figure 6 --scale tenth

paper-cifar: $(READY)  ## train all CIFAR-10 runs of the paper, most important first (GPU-days; run again to resume)
	@$(REPRO) show exp=cifar_paper
	@$(REPRO) run exp=cifar_paper

# Options of the plan: make paper PAPER_ARGS="scale=smoke" (built-in images), or "paths.data=/data seed=1"
PAPER_ARGS ?=

paper: $(READY)  ## train for every table and figure of the paper (docs/paper.md; PAPER_ARGS="scale=smoke": minutes)
	@$(REPRO) show exp=paper $(PAPER_ARGS)
	@$(REPRO) run exp=paper $(PAPER_ARGS)
	@$(REPRO) report --own $(filter paths.%,$(PAPER_ARGS))

bench: $(READY)  ## compare the speed of this machine with the loop of public CIFAR scripts (one minute)
	@$(REPRO) bench --quick

test: $(DEV)  ## run the tests
	@$(VENV)/bin/python -m pytest -n $(TEST_WORKERS)

test-fast: $(DEV)  ## run the tests that need neither training nor processes (one minute)
	@$(VENV)/bin/python -m pytest -n $(TEST_WORKERS) -m "not slow" $(addprefix tests/,config data models papers results)

test-faults: $(DEV)  ## kill runs at fifty random moments and compare the final bits (tens of minutes)
	@REPRO_FAULTS=50 $(VENV)/bin/python -m pytest tests/engine/test_faults.py tests/launch/test_torchrun.py tests/launch/test_launch_pool.py

test-slurm: $(DEV)  ## run a sweep on a real Slurm of two nodes on this machine (needs slurm-wlm and munge)
	@$(VENV)/bin/python -m pytest -m slurm tests/launch/test_slurm.py

check: $(DEV)  ## check style, types and layers
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

# uv resolves for all systems and Pythons at once, and takes the hashes from the package index.
lock: $(READY)  ## write requirements.lock, every package with its version and hashes
	@$(VENV)/bin/python -m pip install --quiet uv
	@$(VENV)/bin/uv pip compile pyproject.toml --all-extras --constraint constraints.txt --universal --python-version 3.11 \
	  --generate-hashes --quiet --custom-compile-command 'make lock' --output-file requirements.lock

$(TABLES): $(READY)  ## print a table of the paper beside the measured values
	@$(REPRO) table $(@:table%=%)

$(FIGURES): $(READY)  ## draw a figure of the paper from the measured curves
	@$(REPRO) figure $(@:figure%=%)

claims: $(READY)  ## give a verdict for every claim of the paper
	@$(REPRO) check

tables: $(READY)  ## render all tables and claims into results/, from the published records (PAPER=wide_resnet: of one paper)
	@$(REPRO) render tables $(addprefix --paper ,$(PAPER))

figures: $(READY)  ## render all figures into results/figures (PAPER=wide_resnet: of one paper)
	@$(REPRO) render figures $(addprefix --paper ,$(PAPER))

report: $(READY)  ## render everything on one page, results/report.html
	@$(REPRO) render report

verify: $(READY)  ## check that published tables, figures and pages agree with the records
	@$(REPRO) render --verify

tensorboard: $(READY)  ## show the curves of all runs in a browser
	@$(REPRO) tensorboard

clean:  ## remove caches and build outputs; keep the environment, data and results
	@rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find repro tests -name __pycache__ -type d -prune -exec rm -rf {} +

# pyproject.toml requires torch and torchvision together, so that the installer chooses a matching pair.
$(READY): pyproject.toml $(CONSTRAINTS)
	@command -v $(PYTHON) >/dev/null || \
	  { echo "$(PYTHON) is not on the PATH: name a Python 3.11 or newer, as in make PYTHON=python3.12 setup" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11: name a newer one, as in make PYTHON=python3.12 setup" >&2; exit 1; }
	@[ -x $(VENV)/bin/pip ] || $(PYTHON) -m venv $(VENV) || \
	  { echo "$(PYTHON) cannot create a virtual environment: install its venv module (on Debian: python3-venv)" >&2; exit 1; }
	@echo "Installing into $(VENV), once, some minutes. On Linux PyTorch brings its GPU libraries: 3 GB to download, 6 GB on" >&2
	@echo "disk. Without an NVIDIA GPU stop here and take its CPU build, a tenth of that: README.md has the line." >&2
	@$(PIP_INSTALL) --editable '.[detection]' >&2
	@touch $@

$(DEV): $(READY)
	@echo "Installing the development tools into $(VENV): about 100 MB" >&2
	@$(PIP_INSTALL) --editable '.[dev]' >&2
	@touch $@

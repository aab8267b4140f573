# Every target sets up what it needs in .venv first; `make help` lists the targets.

PYTHON ?= python3
GRID ?= grids/embedded.yml
CORES ?= all
PROFILE ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
LAB := $(VENV)/lab
CLUSTER := $(VENV)/cluster
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable chrome
FIND_BROWSER := for name in $(BROWSERS); do command -v $$name >/dev/null && break; done

# This checkout's library, also where .venv was copied from another checkout.
export PYTHONPATH := $(CURDIR)/lib
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Container images set it, and every stage would then compile again the libraries that it imports.
unexport PYTHONDONTWRITEBYTECODE
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.PHONY: help book pdf plan lab lint format test pytest test-fast test-lab test-cluster mutants bench archive clean

help:
	@echo "make book    run the whole grid and build the report; GRID=grids/….yml chooses another grid,"
	@echo "             PROFILE=slurm has a cluster run the jobs"
	@echo "make pdf     the same, and a PDF of the report as an article; needs Chromium or Chrome"
	@echo "make plan    show what 'make book' would run, and its cost"
	@echo "make lab     open the notebooks in JupyterLab, on the results that are there"
	@echo "make lint    check the code, the types where numbers are made, and the formatting"
	@echo "make format  format the code with ruff"
	@echo "make test    run 'make lint' and the tests"
	@echo "make pytest  run the tests alone"
	@echo "make test-fast"
	@echo "             run the tests that take no time: no browser, no Snakemake, no other processes"
	@echo "make test-lab"
	@echo "             run the notebooks in JupyterLab in a browser, on the results of 'make book'"
	@echo "make test-cluster"
	@echo "             run the smoke grid on a Slurm of two nodes on this machine, and kill one of them; needs root"
	@echo "make mutants plant mistakes in the library, one at a time, and check that a test fails; an hour;"
	@echo "             ARGUMENTS='--count 20 evaluation/auroc' plants 20 in one module"
	@echo "make bench   measure the speed against plain transformers and the machine's matrix products;"
	@echo "             WEIGHTS=random does so without the models' weights"
	@echo "make archive bundle a finished run for a release or for Zenodo: the report, its PDF if there is one, the rows,"
	@echo "             the notebooks, how to cite, and a manifest with the SHA-256 of every file"
	@echo "make clean   remove .venv; results/, with the built reports, and the cache of models are kept"

# The book is built even if a stage failed: it then shows the error.
book pdf: $(READY) $(if $(PROFILE),$(CLUSTER))
	@$(BIN)/python -m whoknows check $(GRID)
	@$(BIN)/python -m whoknows workflow $(GRID) --cores $(CORES) --profile '$(PROFILE)'; status=$$?; \
	test $$status -le 1 || exit $$status; $(BIN)/python -m whoknows $@ $(GRID) && exit $$status

plan: $(READY)
	@$(BIN)/python -m whoknows workflow $(GRID) --plan

# Paths in notebooks are relative to this folder. JupyterLab starts them in notebooks/, which has links to results and
# grids.
lab: $(LAB)
	@mkdir -p results
	@$(BIN)/jupyter lab --allow-root --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks/explore.py

lint: $(READY)
	@$(BIN)/ruff check --quiet lib tests notebooks
	@$(BIN)/mypy --no-error-summary --cache-dir $(VENV)/mypy
	@$(BIN)/ruff format --quiet --check lib tests notebooks || { echo "Format these with 'make format'." >&2; exit 1; }

format: $(READY)
	@$(BIN)/ruff format --quiet lib tests notebooks

# In CI `make -j2` checks the types beside the tests, and installs the browser beside the packages.
test: lint pytest

# A missing browser is installed on Debian as root; elsewhere the browser tests are skipped, but never in CI.
.PHONY: browser
browser:
	@$(FIND_BROWSER) || ! grep -qs '^ID=debian' /etc/os-release || [ "$$(id -u)" != 0 ] || { \
		echo "Installing Chromium with apt-get, for the browser tests"; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends chromium >/dev/null; } || true
	@$(FIND_BROWSER) || [ "$$CI" != true ] || { \
		echo "There is no Chromium or Chrome on the PATH, and in CI the browser tests may not be skipped." >&2; exit 1; }

# Each process of the tests has one thread: more would wait for one another. Some run make, which is not to be part of
# this one.
pytest: $(READY) browser
	@MAKEFLAGS= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
	@$(FIND_BROWSER) || echo "The browser tests were skipped: there is no Chromium or Chrome on the PATH."

test-fast: $(READY)
	@$(BIN)/python -m pytest -m 'not slow' --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-lab: $(LAB)
	@$(BIN)/python -m pytest tests/lab.py

# A missing Slurm is installed with apt-get; one that is there is left alone.
test-cluster: $(CLUSTER)
	@command -v slurmctld >/dev/null || { echo "Installing Slurm with apt-get"; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends slurmctld slurmd slurm-client >/dev/null; } || { \
		echo "There is no slurmctld on the PATH, and apt-get could not install it: run this as root on Debian or Ubuntu." >&2; exit 1; }
	@$(BIN)/python -m pytest tests/cluster.py

mutants: $(READY)
	@$(BIN)/python tests/mutants.py $(ARGUMENTS)

bench: $(READY)
	@TQDM_DISABLE=1 $(BIN)/python -m whoknows bench $(GRID) $(if $(filter random,$(WEIGHTS)),--random-weights)

archive: $(READY)
	@$(BIN)/python -m whoknows archive $(GRID)

clean:
	rm -rf $(VENV) lib/*.egg-info

# pip is to see the packages of .venv alone.
$(READY) $(LAB) $(CLUSTER): export PYTHONPATH :=

# Compiling all 1.6 GB of packages costs more than it saves: Python compiles what is imported.
$(READY): constraints.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON) on the PATH: install Python 3.11 or newer, or name one with make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "whoknows needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>&1): name another with make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian, Ubuntu: apt-get install python3-venv)." >&2; exit 1; }
	@test -x $(BIN)/pip || { echo "Making a virtual environment in $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing the packages of constraints.txt into $(VENV): a minute or two, 2 GB of disk"
	@$(BIN)/python -m pip install --quiet --quiet --no-compile --constraint constraints.txt --editable '.[test]'
	@touch $@

# By default JupyterLab opens a script as text and offers to fetch news, and a kernel shows charts that need another
# host. These settings, inside .venv, change that.
$(LAB): $(READY)
	@echo "Installing JupyterLab into $(VENV)"
	@$(BIN)/python -m pip install --quiet --quiet --no-compile --constraint constraints.txt --editable '.[lab]'
	@$(BIN)/jupytext-config --settings-file $(VENV)/etc/jupyter/labconfig/default_setting_overrides.json set-default-viewer python
	@mkdir -p $(VENV)/etc/ipython
	@echo "c.IPKernelApp.exec_lines = ['from whoknows.report.pages import style; style.in_jupyterlab(); del style']" > $(VENV)/etc/ipython/ipython_kernel_config.py
	@mkdir -p $(VENV)/share/jupyter/lab/settings
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' > $(VENV)/share/jupyter/lab/settings/overrides.json
	@touch $@

# Not by default: Snakemake imports every plugin that is installed, wherever the jobs run.
$(CLUSTER): $(READY)
	@echo "Installing the packages that run jobs on a cluster into $(VENV)"
	@$(BIN)/python -m pip install --quiet --quiet --no-compile --constraint constraints.txt --editable '.[cluster]'
	@touch $@

# make lab        set up .venv if it is not, then open the lab in JupyterLab
# make test       everything that is checked: style, types, words, tests, browser, notebooks; then one summary
# make quick      style, types, words, and the tests that need neither a browser nor much time
# make lint       style, types, and words that docs/plain_words.txt bans
# make doctor     what is wrong with this installation, in words
# make notebooks  run every notebook afresh and store its outputs
# make fuzz       load changed files for five minutes, or: make fuzz MINUTES=60
#
# Versions are written in pyproject.toml only. A step that is done leaves a stamp in .venv and is not repeated.

PYTHON ?= python3
VENV := .venv
# idle threads of torch sleep instead of spinning: with a browser on the same two cores that is 15 times faster
export OMP_WAIT_POLICY ?= passive
RUN := $(VENV)/bin/python -m
PIP := $(RUN) pip install --quiet --disable-pip-version-check
NOTEBOOKS := $(sort $(wildcard notebooks/*.ipynb))

# On Linux a plain `pip install torch` brings gigabytes of CUDA; the CPU build has an index and a version of its own.
TORCH := torch==$(shell sed -n 's/^ *"torch==\(.*\)",$$/\1/p' pyproject.toml)
ifeq ($(shell uname -s),Linux)
TORCH := --no-deps --retries 1 --extra-index-url https://download.pytorch.org/whl/cpu $(TORCH)+cpu
endif

lab $(VENV)/.screen: export JUPYTERLAB_WORKSPACES_DIR = $(CURDIR)/$(VENV)/workspaces
lab: $(VENV)/.screen
	$(RUN) jupyterlab --LabApp.default_url=/lab/workspaces/labkit/tree/notebooks/00_start_here.ipynb $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_OPTIONS)

# every part runs, also after one has failed; the commands are in tests/run.py
test: $(VENV)/.test
	@$(VENV)/bin/python tests/run.py

quick: $(VENV)/.test
	@$(VENV)/bin/python tests/run.py style format types words quick

lint: $(VENV)/.test
	@$(VENV)/bin/python tests/run.py style format types words

# As a file, not as a module: importing the package needs what may be missing.
doctor: $(VENV)/.python
	$(VENV)/bin/python labkit/doctor.py

notebooks: $(VENV)/.test
	$(RUN) nbconvert --to notebook --execute --inplace \
		--ExecutePreprocessor.store_widget_state=False --ExecutePreprocessor.record_timing=False $(NOTEBOOKS)
	$(VENV)/bin/python -c "$$FORGET_WIDGETS" $(NOTEBOOKS)

MINUTES ?= 5
fuzz: $(VENV)/.test
	$(RUN) tests.fuzz --minutes $(MINUTES)

# GitHub refuses to show a notebook whose widget state is stored in part.
define FORGET_WIDGETS
import sys, nbformat
for path in sys.argv[1:]:
    notebook = nbformat.read(path, as_version=4)
    if notebook.metadata.pop("widgets", None):
        nbformat.write(notebook, path)
endef
export FORGET_WIDGETS

define CHECK_PYTHON
import sys
if sys.version_info < (3, 11):
    sys.exit("labkit needs Python 3.11 or newer, but $(PYTHON) is %d.%d; run: make lab PYTHON=/path/to/python3.11" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError:
    sys.exit("$(PYTHON) lacks the venv module; on Debian and Ubuntu run: sudo apt-get install python3-venv")
endef
export CHECK_PYTHON

$(VENV)/.python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not found; install Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c "$$CHECK_PYTHON"
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.lab: pyproject.toml | $(VENV)/.python
	@echo "Installing into $(VENV); the first time this takes some minutes."
	$(PIP) $(TORCH)
	$(PIP) --editable .
	@touch $@

# The first screen is the notebook: the file browser is closed, and JupyterLab does not ask about its news.
NO_NEWS := {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}
CLOSED := {"data": {"layout-restorer:data": {"left": {"collapsed": true}, "right": {"collapsed": true}}}, \
	"metadata": {"id": "labkit"}}

$(VENV)/.screen: | $(VENV)/.lab
	@mkdir -p $(VENV)/share/jupyter/lab/settings
	@echo '$(NO_NEWS)' > $(VENV)/share/jupyter/lab/settings/overrides.json
	@echo '$(CLOSED)' > $(VENV)/workspace.json
	@$(RUN) jupyterlab workspaces import $(VENV)/workspace.json
	@touch $@

$(VENV)/.test: $(VENV)/.lab
	$(PIP) --editable '.[test]'
	@touch $@

.PHONY: lab test quick lint doctor notebooks fuzz

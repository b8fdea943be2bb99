# Every target works on a bare clone: the first one makes $(VENV) and installs the pinned set, once.
# Arguments for the command behind a target go into ARGS:  make train ARGS="trainer=tiny seed=1"

VENV ?= .venv
PYTHON ?= python3
ARGS ?=
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# -c pins the packages; the isolated build obeys the first variable under an older pip, the second under a newer.
PINNED := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install train test test-slow test-gpu lint format bench report table experiment experiments doctor fetch clean

help:  ## Say what there is to make (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## Make the virtual environment with the pinned set; every target below does it when needed

train: $(STAMP)  ## Train CCDNet with gradient and adversarial loss on real GIFs, and print the table
	$(RUN) train.py model=ccdnet loss=grad_gan $(ARGS)

test: $(STAMP)  ## Run the test suite
	$(RUN) -m pytest -m "not slow and not gpu" -n 2 --dist worksteal $(ARGS)

test-slow: $(STAMP)  ## Run the long tests: kill and resume, whole runs, Ray (which it installs)
	@$(PINNED) $(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray]'
	$(RUN) -m pytest -m "slow and not gpu" $(ARGS)

test-gpu: $(STAMP)  ## Run the tests that need a CUDA device
	$(RUN) -m pytest -m gpu $(ARGS)

lint: $(STAMP)  ## Check style, format and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(STAMP)  ## Put the code into the house's format
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(STAMP)  ## Measure speed and memory side by side against the reference paths
	@for script in benchmarks/*.py; do echo "== $$script"; $(RUN) "$$script" $(ARGS) || exit 1; done

report: $(STAMP)  ## Make the report of runs/: a page to open in a browser, and a Markdown one
	$(RUN) report.py $(ARGS)

table: $(STAMP)  ## Make the tables of README.md and experiments/ anew from the CSV files beside them
	$(RUN) report.py --tables

# SEEDS and EVAL_ARGS may be given, too; with ARGS it is a trial, which leaves experiments/ alone.
experiment: $(STAMP)  ## Run an experiment of the lab book and publish it: N=03 SEEDS="0 1"
	@test -f experiments/$(N)_*/run.sh || { echo "Say which: make experiment N=03" >&2; exit 2; }
	PYTHON="$(RUN)" ARGS="$(ARGS)" bash experiments/$(N)_*/run.sh

experiments: $(STAMP)  ## Run all of them, one after the other, and say how long each took
	@for folder in experiments/[0-9]*/; do \
	  started=$$(date +%s); PYTHON="$(RUN)" ARGS="$(ARGS)" bash $${folder}run.sh || exit 1; \
	  took="$$took\n$$(( ($$(date +%s) - started + 59) / 60 )) min  $$folder"; \
	done; printf "$$took\n%s min in all\n" $$(printf "$$took" | awk '{all += $$1} END {print all}')

doctor: $(STAMP)  ## Say what this machine has, what is missing and how to mend it
	$(VENV)/bin/unlossy doctor

fetch: $(STAMP)  ## Fetch every asset into the cache now, to work without a network later
	$(VENV)/bin/unlossy fetch

clean:  ## Remove caches of the tools; runs/ and the virtual environment stay
	rm -rf .mypy_cache .pytest_cache .ruff_cache build dist

# Any python3 >= 3.11 will do, tried in this order; pyenv's shims may name versions that do not start.
$(STAMP): pyproject.toml constraints.txt
	@for python in $(PYTHON) python3.13 python3.12 python3.11; do \
	  "$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    && found=$$python && break; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "unlossy needs Python 3.11 or newer with its venv module, and found none:" \
	    "install one, or name it with make PYTHON=/path/to/python3." >&2; exit 1; \
	fi; \
	echo "Installing the pinned set into $(VENV): once, a minute or two."; \
	"$$found" -m venv $(VENV)
	@$(PINNED) $(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

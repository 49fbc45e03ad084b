# labkit's commands. `make` alone lists them. Windows without make: see README.md.
#
#   PYTHON=...        the Python to build .venv with (3.11 to 3.14), instead of the first one found;
#                     make gpu: the Python that has torch, numba and numba-cuda
#   TORCH=cpu         make install: a PyTorch without GPU support, some 3 GB less, where an index offers one;
#                     TORCH_INDEX=... is the address of a package index where pip shall look as well
#   CHAPTER=04        make test: only what belongs to one chapter, by its number or topic
#   ALL=1             make notebooks: run every chapter anew, also where only labkit or a check has changed
#   LAB_OPTIONS=...   options for JupyterLab, such as --port=9000 or --allow-root

VENV   := .venv
# Windows, with the make and the sh of its Git: an environment's programs lie elsewhere, and end in .exe.
BIN     = $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)

# How long threads wait awake for each other: labkit/openmp.py says why; here for the programs that import torch before labkit.
ifndef OMP_WAIT_POLICY
export GOMP_SPINCOUNT ?= 3000
export KMP_BLOCKTIME ?= 1
endif

.PHONY: help install install-all install-tests lab test test-ground lowest lint notebooks data mutants bench gpu clean
.DEFAULT_GOAL := help

help:
	@echo "make lab         install what is missing and open the course in JupyterLab"
	@echo "make install     only install, into the folder $(VENV); TORCH=cpu make install, without GPU support"
	@echo "make test        run every test (what CI runs); CHAPTER=01 make test, those of one chapter"
	@echo "make test-ground what every chapter uses, tested, with little installed"
	@echo "make lowest      the same, the checks' engine and the commands with the oldest versions that are allowed"
	@echo "make lint        look through the source with ruff and mypy (a part of make test)"
	@echo "make notebooks   make the notebooks from the sources in solutions"
	@echo "make data        make the pictures in data again"
	@echo "make mutants     test the checks: change the solutions in every place, see that each change is noticed"
	@echo "make bench       measure labkit beside other packages"
	@echo "make gpu         on a machine with an NVIDIA card: results, times and limits, in 8 minutes; installs nothing"
	@echo "make clean       remove caches ($(VENV) stays; rm -rf $(VENV) removes it)"

# --- installing -------------------------------------------------------------------------------------------------------
# labkit.install does it, with whatever Python there is: it builds or mends the environment, and does nothing the second
# time. Programs are run as `python -m ...`, which also works where the folder has been moved.

# $(call install,options)
define install
	@for candidate in $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3 python "$(BIN)/python"); do \
	   if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1; then \
	     found="$$candidate"; break; \
	   fi; \
	 done; \
	 if [ -z "$$found" ]; then \
	   echo "labkit needs Python 3.11, 3.12, 3.13 or 3.14, and none was found$(if $(PYTHON), at $(PYTHON),)."; \
	   echo "Install one: on Debian and Ubuntu, sudo apt install python3 python3-venv; on macOS, brew install python@3.13."; \
	   echo "Or name one: make install PYTHON=/path/to/python3"; \
	   exit 1; \
	 fi; \
	 "$$found" -m labkit.install --venv $(VENV) $(1) $(if $(TORCH),--torch $(TORCH),) \
	   $(if $(TORCH_INDEX),--torch-index "$(TORCH_INDEX)",)
endef

install:
	$(call install,--extras metrics)

# What tests need, without the packages that labkit is measured beside, which not every system has.
install-tests:
	$(call install,$(TEST_EXTRAS))

install-all:
	$(call install,$(ALL_EXTRAS))

# commas would end an argument of `call`
TEST_EXTRAS := --extras metrics,dev
ALL_EXTRAS  := --extras metrics,bench,cluster,dev

# --- working ----------------------------------------------------------------------------------------------------------

lab: install
	@echo "Opening JupyterLab; Ctrl + C twice ends it."
	@$(BIN)/python -m labkit lab $(LAB_OPTIONS)

notebooks: install
	$(BIN)/python -m labkit.notebooks build $(if $(ALL),--all,)

# --- testing ----------------------------------------------------------------------------------------------------------

# $(call phase,title,command)
define phase
	@echo; echo "── $(1)"; start=$$(date +%s); \
	 if $(2); then echo "── $(1): $$(($$(date +%s) - start)) s"; \
	 else echo "── $(1): FAILED after $$(($$(date +%s) - start)) s"; exit 1; fi
endef

# Where the solutions lie that are asked for: all of them, or those of one chapter.
solutions = $(if $(CHAPTER),$(or $(wildcard solutions/$(CHAPTER)_* solutions/0$(CHAPTER)_* solutions/*_$(CHAPTER)),\
                                 $(error no chapter is called $(CHAPTER); expected a number or a topic, such as 01 or filtering)),solutions)

# Every notebook runs at profile quick: small pictures, real results. nbval runs each solution once, cell by cell.
test: export LABKIT_PROFILE := quick
test: export LABKIT_CHAPTER := $(CHAPTER)
test: install-all
	$(call phase,what this machine offers,$(BIN)/python -m labkit doctor)
	$(call phase,tests,$(BIN)/python -m pytest -q -rs --durations=10 tests)
	$(call phase,solution notebooks,$(BIN)/python -m pytest -q --nbval-lax --nbval-current-env $(solutions))

GROUND := validation runtime images patches pyramids operators restoration metrics figures textures training descent

test-ground: export LABKIT_PROFILE := quick
test-ground: install-tests
	$(call phase,the ground floor,$(BIN)/python -m pytest -q $(GROUND:%=tests/test_%.py))

# The oldest versions of what labkit needs, in an environment of their own, on the oldest Python. Old packages warn of newer
# ones that they were not written for; what labkit's own code is warned of, `make test` finds.
lowest: export LABKIT_PROFILE := quick
lowest: VENV := .venv-lowest
lowest: PYTHON := $(or $(PYTHON),python3.11)
lowest:
	$(call install,--lowest)
	$(call phase,the oldest versions allowed,$(BIN)/python -m pytest -q -W ignore::DeprecationWarning -W ignore::FutureWarning \
	    $(GROUND:%=tests/test_%.py) tests/test_checks_engine.py tests/test_cli.py)

# tests/test_quality.py says which modules mypy must find nothing in, and how much it may find in the others.
lint: install-all
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m pytest -q tests/test_quality.py -k mypy

mutants: install-all
	$(BIN)/python -m tests.mutants

bench: install-all
	$(BIN)/python -m labkit bench

# With the Python that is named, else with $(VENV) where there is one, else with the machine's own.
gpu:
	$(or $(PYTHON),$(wildcard $(BIN)/python),python3) -m tests.gpu

data: install
	$(BIN)/python -m labkit.textures

clean:
	rm -rf build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache *.egg-info
	find . -path "./$(VENV)*" -prune -o -name __pycache__ -prune -exec rm -rf {} +

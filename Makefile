# labkit's commands. `make` alone lists them. Windows without make: see README.md.
#
#   PYTHON=...        the Python to build .venv with (3.11 or newer), instead of the first one found;
#                     make gpu: the Python that has torch, numba and numba-cuda
#   CHAPTER=04        make test: only what belongs to one chapter, by its number or topic
#   ALL=1             make notebooks: run every chapter anew, also where only labkit or a check has changed
#   LAB_OPTIONS=...   options for JupyterLab, such as --port=9000 or --allow-root

comma  := ,
VENV   := .venv
# Windows, with the make and the sh of its Git: an environment's programs lie elsewhere, and end in .exe.
BIN    := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
EXE    := $(if $(filter Windows_NT,$(OS)),.exe)
PIP    := $(BIN)/python -m pip
# In CI nobody watches: leave out pip's progress.
QUIET  := $(if $(CI),--quiet,)

.PHONY: help install install-all lab test test-ground lint notebooks data mutants bench gpu clean
.DEFAULT_GOAL := help

help:
	@echo "make lab         install what is missing and open the course in JupyterLab"
	@echo "make install     only install, into the folder $(VENV)"
	@echo "make test        run every test (what CI runs); CHAPTER=01 make test, those of one chapter"
	@echo "make test-ground what every chapter uses, tested: two minutes, with little installed"
	@echo "make lint        look through the source with ruff and mypy (a part of make test)"
	@echo "make notebooks   make the notebooks from the sources in solutions"
	@echo "make data        make the pictures in data again"
	@echo "make mutants     test the checks: change the solutions in every place, see that each change is noticed"
	@echo "make bench       measure labkit beside other packages"
	@echo "make gpu         on a machine with an NVIDIA card: results, times and limits, in 8 minutes; installs nothing"
	@echo "make clean       remove caches ($(VENV) stays; rm -rf $(VENV) removes it)"

# --- installing -------------------------------------------------------------------------------------------------------
# A file in .venv notes what is installed, so that the second call does nothing. pip looks at everything again when
# pyproject.toml or constraints.txt has changed.

install: $(VENV)/installed-student
	@echo "labkit is installed in $(VENV)."

install-all: $(VENV)/installed-all

$(BIN)/python$(EXE):
	@for candidate in $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3 python); do \
	   if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	     found="$$candidate"; break; \
	   fi; \
	 done; \
	 if [ -z "$$found" ]; then \
	   echo "labkit needs Python 3.11 or newer, and none was found$(if $(PYTHON), at $(PYTHON),)."; \
	   echo "Install one: on Debian and Ubuntu, sudo apt install python3 python3-venv; on macOS, brew install python."; \
	   echo "Or name one: make install PYTHON=/path/to/python3"; \
	   exit 1; \
	 fi; \
	 echo "Building $(VENV) with $$("$$found" --version)"; \
	 "$$found" -m venv $(VENV) || { \
	   rm -rf $(VENV); \
	   echo "This Python cannot build environments. On Debian and Ubuntu: sudo apt install python3-venv"; \
	   exit 1; \
	 }

# $(call pip_install,extras,stamps)
define pip_install
	@echo "Installing labkit with [$(1)] into $(VENV)."
	@echo "The first time this fetches PyTorch: about 6 GB on disk, some minutes."
	@start=$$(date +%s); \
	 $(PIP) --disable-pip-version-check install $(QUIET) --constraint constraints.txt --editable ".[$(1)]" && \
	 touch $(2) && echo "Installed in $$(($$(date +%s) - start)) s."
endef

$(VENV)/installed-student: pyproject.toml constraints.txt | $(BIN)/python$(EXE)
	$(call pip_install,metrics,$@)

# What tests need, without the packages that labkit is measured beside, which not every system has.
$(VENV)/installed-dev: pyproject.toml constraints.txt | $(BIN)/python$(EXE)
	$(call pip_install,metrics$(comma)dev,$@ $(VENV)/installed-student)

$(VENV)/installed-all: pyproject.toml constraints.txt | $(BIN)/python$(EXE)
	$(call pip_install,metrics$(comma)bench$(comma)cluster$(comma)dev,$@ $(VENV)/installed-dev $(VENV)/installed-student)

# --- working ----------------------------------------------------------------------------------------------------------

lab: install
	@echo "Opening JupyterLab; Ctrl + C twice ends it."
	@$(BIN)/labkit lab $(LAB_OPTIONS)

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
	$(call phase,what this machine offers,$(BIN)/labkit doctor)
	$(call phase,tests,$(BIN)/python -m pytest -q -rs --durations=10 tests)
	$(call phase,solution notebooks,$(BIN)/python -m pytest -q --nbval-lax --nbval-current-env $(solutions))

GROUND := validation runtime images patches pyramids operators restoration metrics figures textures training descent

test-ground: export LABKIT_PROFILE := quick
test-ground: $(VENV)/installed-dev
	$(call phase,the ground floor,$(BIN)/python -m pytest -q $(GROUND:%=tests/test_%.py))

# tests/test_quality.py says which modules mypy must find nothing in, and how much it may find in the others.
lint: install-all
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m pytest -q tests/test_quality.py -k mypy

mutants: install-all
	$(BIN)/python -m tests.mutants

bench: install-all
	$(BIN)/labkit bench

# With the Python that is named, else with $(VENV) where there is one, else with the machine's own.
gpu:
	$(or $(PYTHON),$(wildcard $(BIN)/python),python3) -m tests.gpu

data: install
	$(BIN)/python -m labkit.textures

clean:
	rm -rf build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache *.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -prune -exec rm -rf {} +

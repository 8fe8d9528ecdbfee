# `make` lists the targets. A target's help is what follows its ##.

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
PROFILE ?= tiny
ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/made-from

# One thread per worker, for the tests and the kernels that run the chapters: sums come out in one
# order, and workers do not fight for cores.
export OMP_NUM_THREADS = 1
export MKL_NUM_THREADS = 1
export OPENBLAS_NUM_THREADS = 1

ifeq ($(filter $(PROFILE),tiny gpu paper),)
  $(error PROFILE is $(PROFILE): choose tiny, gpu or paper)
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup book test notebooks verdicts exercises address seconds records claims badges lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile
	@echo
	@echo '  PYTHON=python3.13      the Python that makes the environment (3.11 or newer)'
	@echo '  VENV=FOLDER            where the environment is (default: .venv)'
	@echo '  TORCH="torch>=2.6"     the torch requirement (default: $(TORCH))'
	@echo '  PROFILE=gpu            the profile of the chapters: tiny (default), gpu, paper'
	@echo '  ARGS="-k wire"         more arguments for pytest, or for the builder of the book'

# The stamp holds what the environment was made from: the torch requirement and a checksum of the
# two files. It is removed before anything is installed and written last. So no stamp means a
# half-made environment (or none), which is made from nothing; another stamp means one to update.
# Only a folder that is empty or an environment is emptied for that. What PYTHON names may have
# arguments, as in "py -3.13".
setup: ## make or update the environment in .venv (the other targets do this by themselves)
	@want="$(TORCH) $$(cat pyproject.toml constraints.txt | cksum)"; \
	refuse() { echo "make: $$1" >&2; exit 1; }; \
	works() { [ -f '$(STAMP)' ] && [ -x '$(BIN)/python' ]; }; \
	if works && [ "$$(cat '$(STAMP)')" = "$$want" ]; then exit 0; fi; \
	set -e; \
	if works; then \
	  echo 'updating the environment $(VENV)'; \
	else \
	  set -- $(PYTHON); \
	  command -v "$$1" >/dev/null || \
	    refuse "there is no program $${1:-in PYTHON}: name a Python 3.11 or newer, as in make PYTHON=python3.13"; \
	  "$$@" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    refuse "$$1 is no Python 3.11 or newer: name one, as in make PYTHON=python3.13"; \
	  "$$@" -c 'import ensurepip, venv' 2>/dev/null || \
	    refuse "$$1 has no venv or no ensurepip: install python3-venv, or name another Python with PYTHON="; \
	  if [ -e '$(VENV)' ] && [ ! -f '$(VENV)/pyvenv.cfg' ] && [ -n "$$(ls -A '$(VENV)')" ]; then \
	    refuse 'VENV=$(VENV) holds something else, which would be lost: name a new folder'; \
	  fi; \
	  echo 'making the environment $(VENV)'; \
	  "$$@" -m venv --clear '$(VENV)' || \
	    refuse 'the environment $(VENV) cannot be made: name a folder where you may write, as in make VENV=$$HOME/splitlab-venv'; \
	fi; \
	rm -f '$(STAMP)'; \
	'$(BIN)/python' -m pip install '$(TORCH)'; \
	'$(BIN)/python' -m pip install -c constraints.txt '$(TORCH)' -e '.[book,test,dp,cluster]'; \
	echo "$$want" > '$(STAMP)'

book: setup ## run the chapters, render them to book/_build/html, print the verdicts
	@'$(BIN)/python' -m splitlab.course.book --profile $(PROFILE) $(ARGS)

test: setup ## run all tests, on two cores where there are two
	@'$(BIN)/python' -m pytest -n auto --maxprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

notebooks: setup ## compare every stored verdict, run all chapters and solutions as a batch
	@'$(BIN)/python' tests/notebooks/every_notebook.py $(ARGS)

verdicts: setup ## build the book and store the chapters' verdict lines as what the tests expect
	@'$(BIN)/python' -m splitlab.course.book --profile tiny --store-verdicts $(ARGS)

exercises: setup ## make exercises/ from the masters in solutions/
	@'$(BIN)/python' -m splitlab.course.editions

address: setup ## write the address and the version of pyproject.toml where they are repeated
	@'$(BIN)/python' -m splitlab.course.address

seconds: setup ## run all notebooks, one at a time, and store their seconds for `splitlab doctor`
	@'$(BIN)/python' -m splitlab.course.book --profile $(PROFILE) --store-seconds $(ARGS)

records: setup ## make the recorded runs that are missing: PROFILE=tiny or paper, ARGS="--minutes 10"
	@'$(BIN)/python' benchmarks/records.py --profile $(PROFILE) $(ARGS)

claims: setup ## rerun what the chapters claim, at every recorded seed: ARGS="--jobs 2"
	@'$(BIN)/python' -m splitlab.course.cli claims --rerun $(ARGS)

badges: setup ## write the chapters' claim cells from claims.yml and the recorded runs
	@'$(BIN)/python' -m splitlab.course.cli claims --badges $(ARGS)

lint: setup ## check style, formatting, types, stripped notebooks and generated exercises
	@'$(BIN)/ruff' check .
	@'$(BIN)/ruff' format --check .
	@'$(BIN)/mypy'
	@'$(BIN)/python' -m splitlab.course.editions --check
	@'$(BIN)/python' -m splitlab.course.address --check
	@find book exercises solutions -name '*.ipynb' -not -path '*/_build/*' \
	  | xargs -r '$(BIN)/nbstripout' --verify --keep-count --keep-id

clean: ## remove what was built (book/_build and caches; not the environment)
	rm -rf book/_build .pytest_cache .ruff_cache .hypothesis build
	find splitlab tests -name __pycache__ -type d -prune -exec rm -rf {} +

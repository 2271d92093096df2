# Targets of pricestack; `make help` lists them.
#
# What is asked for is decided by the commands, not by file dates: a stage that finds
# its own key in the run folder says "up to date" and does nothing.

PYTHON ?= python3
VENV   ?= .venv
RUN    ?= $(if $(CATALOG),runs/mine,runs/sample)
FOLDS  ?= 5
RECIPE ?= default
ARGS   ?=

BIN := $(VENV)/bin
# A time limit (ARGS='--time-limit MINUTES') may give up folds that nobody asked for.
FOLDS_ARG = $(if $(filter file,$(origin FOLDS)),,--folds $(FOLDS))
# Two processes; one that has run out of tests takes over half of the other's.
PYTEST = -m pytest -n 2 --dist worksteal

# Without a CATALOG the stages work on the bundled sample, trained for a few minutes.
ifdef CATALOG
EMBED_ARGS = --catalog "$(CATALOG)" $(if $(IMAGES),--images "$(IMAGES)")
else ifeq ($(RUN),runs/sample)
EMBED_ARGS  = --catalog sample/catalog.csv --images sample/images --random-weights \
              --image-size 64
# Small photos and short texts. The photo tower, which begins with random weights, has to
# learn; the text tower, which does not, stays as it is.
FINETUNE_ARGS = --image-size 48 --max-tokens 24 --freeze-layers 6 \
                --smooth-l1-epochs 5 --smape-epochs 5 --set image_learning_rate=2e-3
SAMPLE = sample/catalog.csv
endif

# The names of folders are among the targets: without this, make would find the
# folders up to date and do nothing.
.PHONY: help venv demo embeddings finetune stack evaluate report test test-all coverage check bench clean
.DEFAULT_GOAL := help

help: ## list targets and variables
	@echo "Targets:"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | \
	  awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "Variables (make TARGET NAME=value):"
	@echo "  CATALOG     file of products; without it, the bundled sample"
	@echo "  IMAGES      folder of the photos"
	@echo "  RUN         run folder [runs/mine with a CATALOG, else runs/sample]"
	@echo "  FOLDS       networks, one per fold        [$(FOLDS)]"
	@echo "  RECIPE      default or paper              [$(RECIPE)]"
	@echo "  ARGS        more options of the command, e.g. ARGS='--text-column title'"
	@echo "  PYTHON      Python 3.11 or later to make the environment with [$(PYTHON)]"

venv: $(VENV)/installed ## make .venv: the package, its extras and the tools

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[sample,excel,openvino,timm,images,report,serve,export,tensorboard,tune,dev]'
	@touch $@

demo: venv ## everything on the bundled sample: photos and texts to a judged price
	$(MAKE) --no-print-directory embeddings RUN=runs/sample
	$(MAKE) --no-print-directory finetune RUN=runs/sample
	$(MAKE) --no-print-directory stack RUN=runs/sample
	$(BIN)/evaluate --folds $(FOLDS) --run runs/sample
	$(BIN)/pricestack report --run runs/sample

sample/catalog.csv: | venv
	$(BIN)/pricestack sample --products 600 --out sample

embeddings: venv $(SAMPLE) ## catalog and photos to feature arrays
ifeq ($(EMBED_ARGS),)
	@echo "make embeddings: RUN=$(RUN) needs CATALOG=FILE (and IMAGES=DIR)"; exit 2
else
	$(BIN)/pricestack embed $(EMBED_ARGS) --run "$(RUN)" $(ARGS)
endif

finetune: venv ## one network per fold
	$(BIN)/pricestack finetune --run "$(RUN)" $(FOLDS_ARG) --recipe $(RECIPE) \
	  $(FINETUNE_ARGS) $(ARGS)

stack: venv ## boosters on the residual, and the verdict
	$(BIN)/pricestack stack --run "$(RUN)" $(ARGS)

evaluate: venv ## the table of a finished run
	$(BIN)/evaluate $(FOLDS_ARG) --run "$(RUN)" $(ARGS)

report: venv ## what a finished run found, as one HTML file
	$(BIN)/pricestack report --run "$(RUN)" $(ARGS)

test: venv ## the tests without the slow ones: 4 to 8 minutes
	$(BIN)/python $(PYTEST) --quick $(ARGS)

test-all: venv ## all tests: kills, damage, browsers, load, real catalogs too
	$(BIN)/python $(PYTEST) $(ARGS)

coverage: venv ## which lines and branches the whole test suite runs
	$(BIN)/coverage erase
	$(BIN)/coverage run $(PYTEST) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

check: venv ## ruff (lint and format), mypy --strict, pip-audit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
# pip-audit ends alike where it finds something and where it gets no answer; only the
# first fails the check. What is let through (--ignore-vuln) needs its reason here: none.
	@report=$$($(BIN)/pip-audit -r constraints.txt --no-deps --disable-pip \
	  --progress-spinner off 2>&1) && found=no || found=yes; \
	if [ $$found = no ]; then \
	  skipped=$$(echo "$$report" | grep -c 'could not be audited'); \
	  echo "pip-audit: no known vulnerability; of $$(grep -c == constraints.txt)" \
	    "packages, $$skipped are unknown to the index asked"; \
	elif echo "$$report" | grep -qE 'Found [0-9]+ known vulnerabilit'; then \
	  echo "$$report"; exit 1; \
	elif echo "$$report" | grep -qiE 'connect|timed out'; then \
	  echo "pip-audit: NOT AUDITED, the vulnerability service gives no answer"; \
	else echo "$$report" | tail -n 5; exit 1; fi

bench: venv ## measure speed and memory on the real catalog, to benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks $(ARGS)

clean: ## remove the sample and its run (not .venv, not other runs)
	rm -rf sample runs/sample

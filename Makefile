# The two commands are `make matrix` and `make test`; `make help` lists the rest.

MATRIX ?= harness/matrices/micro.yaml
FUZZ ?= 1000000
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# the GPU lane where nvidia-smi lists a GPU, else the CPU lane; LANE=cpu or LANE=gpu decides itself
LANE ?= $(if $(findstring GPU,$(shell nvidia-smi -L 2>/dev/null)),gpu,cpu)
READY := $(VENV)/.ready-$(LANE)
# PyPI's torch brings CUDA; the CPU builds have an index of their own, which may be out of reach
# where pip finds a CPU build elsewhere
TORCH_INDEX_cpu := --extra-index-url https://download.pytorch.org/whl/cpu --retries 1
# Python compiles what is imported, most of it never is; where it may not keep that, it would compile
# it in every process
unexport PYTHONDONTWRITEBYTECODE
INSTALL := -m pip install --quiet --disable-pip-version-check --no-deps --no-compile
HASHED := $(INSTALL) --require-hashes
# what resolves, audits and lists packages has an environment of its own
TOOLS := build/tools
COMPILE := $(TOOLS)/bin/uv pip compile --quiet --python-version 3.11 --no-annotate \
	--generate-hashes --custom-compile-command 'make lock'

.PHONY: matrix test setup leaderboard leaderboard-static screenshots report bench fuzz chaos clean \
	help lint lock audit licences embedded-base
.DEFAULT_GOAL := matrix

matrix: $(READY)  ## run MATRIX (default: harness/matrices/micro.yaml) and print its table
	@$(BIN)/harness run $(MATRIX) $(RUN)

test: $(READY)  ## run every test that this machine can
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(TESTS)

setup: $(READY)  ## build .venv from the locked environment

leaderboard: $(READY)  ## open the leaderboard on http://127.0.0.1:8501
	@$(BIN)/python -m leaderboard

leaderboard-static: $(READY)  ## write ranking and map as one HTML file, build/leaderboard.html
	@$(BIN)/python -m leaderboard.static

screenshots: $(READY)  ## make the README's pictures, from the set in RELEASE (the newest)
	@$(BIN)/python -m leaderboard.screenshots $(RELEASE)

report: $(READY)  ## write what the matrix scored last showed to results/
	@$(BIN)/harness report

fuzz: $(READY)  ## give every reader of files FUZZ inputs that nobody expects (a million; minutes)
	@$(BIN)/python -m pip install --quiet atheris
	@$(BIN)/python -m tests.fuzz --inputs $(FUZZ)

bench: $(READY)  ## measure engine, plans, schedules, leaderboard, merging; writes results/bench.json
	@$(BIN)/python -m harness.bench $(BENCH)

chaos: $(READY)  ## interrupt and damage runs of a small matrix, compare; CHAOS="--faults 20"
	@$(BIN)/python -m tests.faults $(CHAOS)

embedded-base: $(READY)  ## train the embedded world's base model anew
	@$(BIN)/python -m harness.embedded.pretrain

lint: $(READY)  ## check style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

clean: $(READY)  ## delete artifacts and scores, after asking
	@$(BIN)/harness clean

lock: $(TOOLS)  ## resolve requirements/*.in to the lock files
	@$(COMPILE) $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS),--torch-backend cpu) \
		--override requirements/without.txt requirements/cpu.in -o requirements/cpu.txt
	@$(COMPILE) requirements/gpu.in -o requirements/gpu.txt
	@$(COMPILE) requirements/tools.in -o requirements/tools.txt

audit: $(TOOLS)  ## say which locked packages have known vulnerabilities
	@$(TOOLS)/bin/python requirements/audit.py

licences: $(READY) $(TOOLS)  ## write requirements/LICENCES.md
	@$(TOOLS)/bin/python requirements/licences.py $(BIN)/python

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 27

$(READY): requirements/$(LANE).txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: Python 3.11 or newer is needed; name one with PYTHON=python3.11"; exit 2; }
	@echo "building $(VENV), $(LANE) lane (once; a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@sed -n '/^torch==/,/[^\\]$$/p' $< | \
		$(BIN)/python $(HASHED) $(TORCH_INDEX_$(LANE)) -r /dev/stdin
	@$(BIN)/python $(HASHED) -r $<
	@$(BIN)/python $(INSTALL) --no-build-isolation -e .
	@touch $@

$(TOOLS): requirements/tools.txt
	@echo "building $(TOOLS) (once)"
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python $(HASHED) -r $< || { rm -r $(TOOLS); exit 1; }
	@touch $@

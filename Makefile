# The first two work on a fresh machine that has make and Python 3.11 or later:
#   make demo     trained models on embedded brains, and one small training (about 4 minutes)
#   make test     lint, types and tests
.PHONY: demo test lint docs bench weights clean
.DELETE_ON_ERROR:

BIN := .venv/bin
READY := .venv/.ready-for-development

demo: $(READY)
	$(BIN)/radiffuse demo --out demo-out

# worksteal: each process takes whole files as long as it can, so that what a file prepares is made once
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in build/site; code blocks, commands and links are checked by its tests, notebooks are run, and no
# warning is let through.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/test_docs.py
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/site

# make bench NAME="startup", NAME="generation --data FOLDER --method ddpm --minutes 30"
bench: $(READY)
	$(BIN)/radiffuse bench $(NAME)

# The models in src/radiffuse/runs/models, from training to card: six hours of two cores at most, gone on with where it
# stopped; make weights NAME=brains-mri makes one.
weights: $(READY)
	$(BIN)/python benchmarks/weights.py $(NAME)

clean:
	rm -rf .venv build demo-out .mypy_cache .pytest_cache .ruff_cache .hypothesis

# Made once, and again when what is to be installed has changed.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || { \
	  for python in python3.13 python3.12 python3.11 python3; do \
	    if command -v $$python >/dev/null 2>&1 && \
	       $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	    then found=$$python; break; fi; \
	  done; \
	  if test -z "$$found"; then \
	    echo "make: no Python 3.11 or later with venv was found (Debian: apt install python3-venv)" >&2; \
	    exit 1; \
	  fi; \
	  echo "making .venv with $$found"; $$found -m venv .venv; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

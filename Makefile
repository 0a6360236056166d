# Everything a newcomer needs: `make demo` and `make test`. Each target sets up .venv by itself the first time.
PYTHON ?= python3.11
SEEDS ?= 1
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PACKAGES := core $(sort $(patsubst %/,%,$(dir $(wildcard plugins/*/pyproject.toml))))
SOURCES := $(addsuffix /src,$(PACKAGES))

.PHONY: demo test check docs format bench clean

demo: $(READY)
	$(BIN)/uncollapse demo --seeds $(SEEDS)

# One thread for each of the two workers: tests are small, and threads of two workers on two cores only wait for one another.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/python -m pytest -q --no-header tests/test_imports.py

# Pages of components and of public names are written from the sources; nothing of them is kept.
docs: $(READY)
	$(BIN)/python -m sphinx --builder html --nitpicky --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	for b in benchmarks/*.py; do $(BIN)/python $$b || exit 1; done

$(READY): constraints.txt core/pyproject.toml $(foreach p,$(PACKAGES),$(p)/pyproject.toml)
	test -d $(VENV) || $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
	  -e 'core[all,test,docs]' -e 'plugins/report[test]' $(foreach p,$(filter-out core,$(PACKAGES)),-e $(p)) \
	  ruff mypy types-PyYAML pytest-xdist setuptools
	touch $(READY)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist docs/_build docs/api docs/components docs/experiments docs/remedies

# Everything a contributor runs. CI runs `make check` and `make test`, nothing else.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: quickstart test check format clean

quickstart: $(INSTALLED)  ## Set up, then train and measure on the docs of the installed packages.
	$(BIN)/nestvec quickstart $(if $(wildcard runs/quickstart/work),--resume,--overwrite)

test: $(INSTALLED)  ## The whole test suite.
	$(BIN)/python -m pytest --numprocesses=logical --dist=worksteal

check: $(INSTALLED)  ## Format, lint, types.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED)  ## Put files in the house's format.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove what is made here, but not results in runs/.
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/pip install --no-compile --editable '.[dev]'
	touch $@

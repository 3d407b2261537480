# The two commands of the README; everything they need goes into .venv.
PYTHON ?= python3

.PHONY: demo examples test lint install clean
demo: .venv/.installed
	scripts/demo

examples: .venv/.installed
	scripts/examples

test: .venv/.installed
	scripts/lint
	scripts/test

lint: .venv/.installed
	scripts/lint

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt scripts/install
	PYTHON=$(PYTHON) scripts/install
	touch $@

clean:
	rm -rf .venv build dist runs

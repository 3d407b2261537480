# The two commands of the README; everything they need goes into .venv.
PYTHON ?= python3

.PHONY: demo docs examples test lint install clean
demo: .venv/.installed
	scripts/demo

examples: .venv/.installed
	scripts/examples

# The site in build/site, strictly.  Transcripts and pictures are made from real runs by scripts/docs/*.py.
docs: .venv/.installed
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict

test: .venv/.installed
	scripts/lint
	scripts/test

lint: .venv/.installed
	scripts/lint

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt scripts/install
	PYTHON=$(PYTHON) scripts/install
	touch $@

clean: # what was measured, in runs/, stays
	rm -rf .venv build dist

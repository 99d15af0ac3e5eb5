# On a machine with Python 3.11 and nothing else: `make demo`, `make test`, `make lint`.

PYTHON ?= python3.11
BIN := .venv/bin
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: demo test lint format clean

demo: .venv/.installed
	$(BIN)/xfc check llama3_8b
	$(BIN)/xfc info llama3_8b
	mkdir -p build/demo
	$(BIN)/xfc compile llama3_8b -o build/demo/llama3_8b.py
	$(BIN)/python examples/against_a_checkpoint.py build/demo/checkpoint
	$(BIN)/xfc verify build/demo/checkpoint/llama.yaml --checkpoint build/demo/checkpoint
	sed -n '/^class GroupedQuery/,/^class Transformer/p' build/demo/llama3_8b.py

test: .venv/.installed
	$(BIN)/python -m pytest -n 2 -q

lint: .venv/.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright

format: .venv/.installed
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf build .venv

# torch first and alone: with it in place, the rest finds its requirement met. What the first commands would compile and keep is made ahead.
.venv/.installed: pyproject.toml constraints.txt | build/typing/xfc
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[development]' --constraint constraints.txt
	$(BIN)/python -m compileall -q __init__.py backends compiler grammar
	$(BIN)/python -m xfc.grammar.cache specs/*.xf specs/std/*.xf
	$(BIN)/python -m xfc.backends.python.templates
	touch $@

# The package under its own name, for type checkers.
build/typing/xfc:
	mkdir -p build/typing
	ln -s ../.. build/typing/xfc

# make demo   set up, simulate a patch, label it, draw it      make test   set up, run all tests
# make lint   ruff and mypy                                    make bench  the numbers the docs quote
PYTHON ?= python3
VENV   ?= .venv
BIN    ?= $(VENV)/bin
OUT    ?= demo
SIZE   ?= 1050

# Threads inside numpy's libraries fight with the worker processes for the same cores.
export OMP_NUM_THREADS ?= 1

.PHONY: demo run-demo test lint bench clean

demo: $(VENV)/demo.ready
	$(MAKE) run-demo

# What the demo does once all is installed; also run by the integration test, smaller.
run-demo:
	$(BIN)/astrolabel simulate $(OUT)/sky --size $(SIZE)
	$(BIN)/astrolabel make-coco --manifest data_manifests/demo.yaml --root $(OUT)/sky --out $(OUT)/labels --jobs 2
	$(BIN)/astrolabel validate $(OUT)/labels/coco.json
	$(BIN)/astrolabel preview $(OUT)/labels/coco.json --out $(OUT)/labels/preview
	@echo
	@echo "labels:    $(OUT)/labels/coco.json"
	@echo "pictures:  $(OUT)/labels/preview/index.html"

test: $(VENV)/test.ready
	$(BIN)/python -m pytest

lint: $(VENV)/test.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/test.ready
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/labels.py
	$(BIN)/python benchmarks/hsc_cutout.py

$(VENV)/demo.ready: packages/astrolabel/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e "packages/astrolabel[simulate]"
	touch $@

$(VENV)/test.ready: $(VENV)/demo.ready pyproject.toml packages/astroseg/pyproject.toml
	$(BIN)/python -m pip install --quiet -e "packages/astrolabel[simulate,parquet]" -e "packages/astroseg[parquet]" --group dev
	touch $@

clean:
	rm -rf $(VENV) demo

# make demo   set up, simulate sky, label it, train a model on the labels, judge it
# make test   set up, run every test
# make test-oldest   astrolabel's tests on the oldest versions that its pyproject.toml allows
# make lint   ruff and mypy
# make sky-model   train the built-in model from nothing
# make bench  the numbers the docs quote
PYTHON ?= python3
VENV   ?= .venv
BIN    ?= $(VENV)/bin

# The demo's size: a training sky of 64 tiles, a test sky of 9, minutes of training.
OUT        ?= demo
TRAIN_SIZE ?= 2048
TEST_SIZE  ?= 768
STEPS      ?= 1800
FINE_STEPS ?= 400
# Real pixels to begin with: g, r, z images of the DECam Legacy Survey, where they are at hand.
REAL       ?= ../shared/data/decals_dr7

# Threads inside numpy's libraries fight with the worker processes for the same cores.
LABEL = OMP_NUM_THREADS=1 $(BIN)/astrolabel
MAKE_COCO = $(LABEL) make-coco --manifest data_manifests/demo.yaml --jobs 2
TRAIN = $(BIN)/astroseg train $(OUT)/labels/train/coco.json
PREDICT = $(BIN)/astroseg predict --quiet
EVALUATE = $(BIN)/astroseg evaluate $(OUT)/labels/test/coco.json $(OUT)/predictions
ON_TEST = $(OUT)/labels/test/coco.json --score 0.02 --out $(OUT)/predictions

.PHONY: demo run-demo test test-oldest lint bench sky-model clean

demo: $(VENV)/demo.ready
	$(MAKE) run-demo

# What the demo does once all is installed; the integration test runs it too, smaller.
run-demo:
	@echo "--- first look: the built-in model, on pixels it never saw"
	if [ -e $(REAL)_g.fits ]; then \
	  $(PREDICT) $(REAL)_g.fits,$(REAL)_r.fits,$(REAL)_z.fits --out $(OUT)/first; \
	else \
	  $(LABEL) simulate $(OUT)/sky/first --survey decam --seed 3 --size 512 && \
	  $(PREDICT) $(OUT)/sky/first/decam-g.fits,$(OUT)/sky/first/decam-r.fits,$(OUT)/sky/first/decam-z.fits \
	    --out $(OUT)/first; fi
	@echo "--- labels of a simulated sky"
	$(LABEL) simulate $(OUT)/sky/train --size $(TRAIN_SIZE) --seed 1
	$(LABEL) simulate $(OUT)/sky/test --size $(TEST_SIZE) --seed 2
	$(MAKE_COCO) --root $(OUT)/sky/train --out $(OUT)/labels/train
	$(MAKE_COCO) --root $(OUT)/sky/test --out $(OUT)/labels/test
	$(LABEL) validate $(OUT)/labels/train/coco.json
	$(LABEL) preview $(OUT)/labels/test/coco.json
	$(LABEL) report $(OUT)/labels/test/coco.json --truth $(OUT)/sky/test/truth.json \
	  --catalog $(OUT)/sky/test/catalog_hst.fits --scheme hst
	rm -rf $(OUT)/scratch $(OUT)/fine-tuned
	@echo "--- training: a small model from scratch, and the built-in one fine-tuned"
	$(TRAIN) --model tiny --steps $(STEPS) --out $(OUT)/scratch
	$(TRAIN) --weights sky --steps $(FINE_STEPS) --out $(OUT)/fine-tuned
	$(PREDICT) --model sky $(ON_TEST)/built-in
	$(PREDICT) $(OUT)/scratch/last.safetensors $(ON_TEST)/scratch
	$(PREDICT) $(OUT)/fine-tuned/last.safetensors $(ON_TEST)/fine-tuned
	$(EVALUATE)/built-in/predictions.json --out $(OUT)/evaluation/built-in > /dev/null
	for model in scratch fine-tuned; do \
	  $(EVALUATE)/$$model/predictions.json --out $(OUT)/evaluation/$$model \
	    --beside $(OUT)/evaluation/built-in/metrics.json || exit; done
	@echo
	@echo "first look:  $(OUT)/first/overlays/, catalog.fits"
	@echo "labels:      $(OUT)/labels/train/coco.json, $(OUT)/labels/test/coco.json"
	@echo "trust them?  $(OUT)/labels/test/report.html"
	@echo "pictures:    $(OUT)/labels/test/preview/index.html"
	@echo "models:      $(OUT)/scratch/last.safetensors, $(OUT)/fine-tuned/last.safetensors"
	@echo "predictions: $(OUT)/predictions/fine-tuned/predictions.json, catalog.fits and overlays/"
	@echo "report:      $(OUT)/evaluation/fine-tuned/report.html"

test: $(VENV)/test.ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Old libraries warn of newer ones that they use.
test-oldest: OLDEST = $(VENV)-oldest
test-oldest:
	$(PYTHON) -m venv $(OLDEST)
	$(PYTHON) .ci/oldest.py packages/astrolabel/pyproject.toml parquet fetch > $(OLDEST)/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --constraint $(OLDEST)/oldest.txt \
	  -e "packages/astrolabel[parquet,fetch]" pytest hypothesis psutil
	$(OLDEST)/bin/python -m pytest -W ignore::DeprecationWarning tests/astrolabel

lint: $(VENV)/test.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/test.ready
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/speed.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/labels.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/ablation.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bright.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/saturation.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/deblend_speed.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/fluxes.py --size 800
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/report_memory.py
	$(BIN)/python benchmarks/evaluate_speed.py
	$(BIN)/python benchmarks/predict_memory.py
	$(BIN)/python benchmarks/loader_speed.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sky.py

# The built-in model from nothing: 70 minutes of one core. Rerun it to resume.
sky-model: $(VENV)/test.ready
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sky_model.py --out $(OUT)/sky-model --ship \
	  $(if $(GALAXIES),--galaxies $(GALAXIES))

$(VENV)/demo.ready: packages/astrolabel/pyproject.toml packages/astroseg/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e "packages/astrolabel[simulate,parquet,fetch]" -e "packages/astroseg[parquet,tensorboard]"
	# As pip does for what it copies: half a second less at each start where Python may not.
	$(BIN)/python -m compileall -q packages/astrolabel/src packages/astroseg/src
	touch $@

$(VENV)/test.ready: $(VENV)/demo.ready pyproject.toml
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

clean:
	rm -rf $(VENV) demo

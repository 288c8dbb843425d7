# make demo | test | lint | types | test-full: each first sets up .venv if it is missing or out of date.
#   PYTHON=python3.11            the interpreter to build .venv from (3.11 or 3.12)
#   TORCH_INDEX_URL=URL          index to install torch from, e.g. PyTorch's CPU wheels; default: pip's configuration
#   PYTEST_ARGS="-k labelme"     passed on to pytest
# make pretrained DATA=DIR OUT=DIR: the model that comes with the package, in steps that go on where they stopped
# make refinement-evidence CKPT=FILE ROOT=DIR OUT=DIR [OTHER=DIR]: every figure on masks in docs/refinement.md

SHELL := /bin/sh
PYTHON ?= $(shell for p in python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; done)
TORCH_INDEX_URL ?=
PYTEST_ARGS ?=
WORKERS ?= 2
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: env demo test test-full lint types format clean refinement-evidence pretrained

env: $(READY)

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 found. Install one, or give it: make PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX_URL),$(PY) -m pip install --quiet torch torchvision --index-url $(TORCH_INDEX_URL))
	$(PY) -m pip install --quiet -e '.[dev]'
	@$(PY) -m pip install --quiet -e '.[pydensecrf]' >$(VENV)/pydensecrf.log 2>&1 \
		|| echo "note: pydensecrf was not built (see $(VENV)/pydensecrf.log); everything but refine.engine=pydensecrf works without it"
	@touch $(READY)

# The shipped model on synthetic metaphases of three stains, then a short training that starts from it.
demo: $(READY)
	test -d runs/demo/images || $(PY) -m kemr_lightning.data.synthetic runs/demo/images --scene clinical \
		--size 1024 768 --train 0 --val 0 --test 6
	$(PY) run.py task=predict data.root=runs/demo/images/test hydra.run.dir=runs/demo/predict
	$(PY) run.py experiment=demo init=pretrained optimizer.lr=5.0e-4 trainer.max_steps=100

# One thread each: the processes already fill the cores, and competing threads would cost minutes.
test: $(READY)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS) $(PYTEST_ARGS)

test-full: $(READY)
	$(PY) -m pytest -m full $(PYTEST_ARGS)

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(READY)
	$(PY) -m mypy

format: $(READY)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

refinement-evidence: $(READY)
	for source in auto val train; do \
		$(PY) run.py task=learn experiment=kemr_tiny ckpt=$(CKPT) data.root=$(ROOT) learn.source=$$source \
			hydra.run.dir=$(OUT)/learn_$$source || exit; \
	done
	$(PY) benchmarks/mask_limits.py --checkpoint $(CKPT) --root $(ROOT) --out $(OUT)/limits
	$(PY) benchmarks/refinement_gain.py --checkpoint $(CKPT) --knowledge $(OUT)/learn_auto/knowledge.safetensors \
		--root $(ROOT) --out $(OUT)/gain \
		--also val=$(OUT)/learn_val/knowledge.safetensors train=$(OUT)/learn_train/knowledge.safetensors
	$(if $(OTHER),$(PY) benchmarks/refinement_gain.py --checkpoint $(CKPT) \
		--knowledge $(OUT)/learn_auto/knowledge.safetensors --root $(OTHER) --out $(OUT)/gain_other)

# DATA has cil_gband_large/, bioimlab/ and mfish/. Each step is skipped if its result is there.
OUT ?= runs/pretrained
OUTLINE = $(PY) run.py task=outline data=coco data.root=$(DATA)/cil_gband_large
PRETRAIN = $(PY) run.py experiment=pretrain data.sources.qband.root=$(OUT)/qband data.sources.dapi.root=$(DATA)/mfish trainer.limit_val_batches=20

pretrained: kemr_lightning/pretrained/chromosomes.safetensors

$(OUT)/by_stain/outlined/train/annotations.json: | $(READY)
	$(OUTLINE) outline.model=false hydra.run.dir=$(OUT)/by_stain

$(OUT)/qband/train: | $(READY)
	mkdir -p $(OUT)/qband && cp -r $(DATA)/bioimlab/train $@

$(OUT)/first/metrics.json: $(OUT)/by_stain/outlined/train/annotations.json | $(OUT)/qband/train
	$(PRETRAIN) data.sources.gband.root=$(OUT)/by_stain/outlined trainer.max_steps=4000 \
		hydra.run.dir=$(OUT)/first resume=auto

$(OUT)/by_model/outlined/train/annotations.json: $(OUT)/first/metrics.json
	$(OUTLINE) ckpt=$(OUT)/first/checkpoints/last.ckpt hydra.run.dir=$(OUT)/by_model

$(OUT)/second/metrics.json: $(OUT)/by_model/outlined/train/annotations.json
	$(PRETRAIN) data.sources.gband.root=$(OUT)/by_model/outlined init=$(OUT)/first/checkpoints/last.ckpt \
		trainer.max_steps=4000 hydra.run.dir=$(OUT)/second resume=auto

kemr_lightning/pretrained/chromosomes.safetensors: $(OUT)/second/metrics.json
	$(PY) -m kemr_lightning.training $(OUT)/second/checkpoints/best.ckpt $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache

# make demo | test | lint | types | test-full: each first sets up .venv if it is missing or out of date.
#   PYTHON=python3.11            the interpreter to build .venv from (3.11 or 3.12)
#   TORCH_INDEX_URL=URL          index to install torch from, e.g. PyTorch's CPU wheels; default: pip's configuration
#   PYTEST_ARGS="-k labelme"     passed on to pytest
# make pretrained DATA=DIR OUT=DIR: the model that comes with the package, in steps that go on where they stopped
# make audit | lock | test-minimal: advisories about the locked packages; lock the newest packages that the ranges allow;
#   the tests with the oldest ones (a virtual environment of its own, several GB)
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
LOCK := requirements.lock
TOOLS := .venv-tools
MINIMAL := .venv-minimal

.PHONY: env demo test test-full test-minimal lint types format clean audit lock refinement-evidence pretrained

env: $(READY)

# The locked packages, each checked by its hash. Where they cannot be had (another platform, an index without them, or
# torch from an index of its own), the ranges of pyproject.toml count; but never after a wrong hash.
$(READY): pyproject.toml $(LOCK)
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 found. Install one, or give it: make PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@if [ -n "$(TORCH_INDEX_URL)" ]; then \
		echo "note: with TORCH_INDEX_URL the ranges of pyproject.toml are installed, not $(LOCK)"; \
		$(PY) -m pip install --quiet torch torchvision --index-url $(TORCH_INDEX_URL); \
	else \
		echo "installing $(LOCK), which takes minutes"; \
		$(PY) -m pip install --quiet --require-hashes -r $(LOCK) >$(VENV)/lock.log 2>&1 || { \
			if grep -q 'DO NOT MATCH THE HASHES' $(VENV)/lock.log; then \
				cat $(VENV)/lock.log; echo "error: a package is not the one that was locked. Do not use this index"; exit 2; \
			fi; \
			echo "note: $(LOCK) could not be installed (see $(VENV)/lock.log): the ranges of pyproject.toml are installed"; \
		}; \
	fi
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

$(TOOLS)/.ready: Makefile
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet 'uv==0.13.*' 'pip-audit==2.10.*'
	@touch $@

audit: $(LOCK)
	@$(MAKE) --no-print-directory $(TOOLS)/.ready || echo "audit: NOT RUN (pip-audit cannot be installed here)"
	@test ! -f $(TOOLS)/.ready || $(TOOLS)/bin/python .ci/audit.py $(TOOLS)/bin/pip-audit

lock: $(TOOLS)/.ready
	$(TOOLS)/bin/uv pip compile --quiet --universal --generate-hashes --upgrade --python-version 3.11 --extra dev \
		--custom-compile-command "make lock" $(LOCK_ARGS) --output-file $(LOCK) pyproject.toml

# The oldest packages that pyproject.toml allows; PYTEST_ARGS chooses some of the tests.
test-minimal: $(TOOLS)/.ready
	$(TOOLS)/bin/uv venv --quiet --allow-existing --python $(PYTHON) $(MINIMAL)
	$(TOOLS)/bin/uv pip install --quiet --resolution lowest-direct --python $(MINIMAL)/bin/python -e '.[dev]'
	OMP_NUM_THREADS=1 $(MINIMAL)/bin/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

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
	rm -rf $(VENV) $(TOOLS) $(MINIMAL) .mypy_cache .ruff_cache .pytest_cache

.DEFAULT_GOAL := help
.PHONY: help install demo test odd elsewhere docs lint check bench-env clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/.installed

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(INSTALLED) ## Make .venv with the package and its development tools

$(INSTALLED): pyproject.toml constraints.txt
	@echo "Installing into .venv: some minutes the first time"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	@touch $@

demo: install ## Train on the embedded digits, pretrained and from scratch: about two minutes on two cores
	$(BIN)/python train.py -m backbone.weights=formula,null backbone.image_size=48 trainer.max_epochs=5

test: install ## Run the tests
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

odd: install ## Try three hundred odd and hostile inputs, each in a process of its own: some minutes
	$(BIN)/python -m tests.hostile

elsewhere: install ## Train, export, and predict with the file in an environment without this package
	rm -rf outputs/elsewhere .venv-elsewhere
	$(BIN)/tl train data=digits strategy=linear_probe hydra.run.dir=outputs/elsewhere
	$(BIN)/tl export run=outputs/elsewhere
	$(PYTHON) -m venv .venv-elsewhere
	.venv-elsewhere/bin/python -m pip install --quiet onnxruntime numpy pillow --constraint constraints.txt
	.venv-elsewhere/bin/python outputs/elsewhere/export/predict.py outputs/elsewhere/export/model.onnx \
	  $$($(BIN)/python -c 'from tl_lightning.data.images import digits; print(digits.folder())')/test/7/*.png

docs: install ## Make the site in site/, its notebook executed
	$(BIN)/python -m pip install --quiet --editable '.[docs]' --constraint constraints.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: install ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test ## All of the above that can fail

bench-env: ## Make .venv-bench with what benchmarks/benchmark.py --peers compares with
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet fastai 'lightning>=2.6.6,<2.7' safetensors --constraint constraints.txt

clean: ## Remove the environment and everything that runs left here
	rm -rf .venv .venv-bench .venv-elsewhere outputs multirun docs/outputs site build dist .mypy_cache .ruff_cache .pytest_cache

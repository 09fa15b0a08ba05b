# make repro         set up the environment and run the pipeline
# make table         print the report's Tables 3 and 4
# make experiments   print the headline metrics of all experiments
# make leaderboard   compare systems with several seeds (SET="data.source=local data.path=../city" sets parameters)
# make test          set up the environment and run the tests
# make test-fast     run the tests of single definitions, a minute
# make test-slow     run the tests that take an hour
# make check-repro   run the pipeline in two fresh clones and compare the bytes
# make check-sonyc   train on the real SONYC-UST and compare with the published figures
# make bench         time every step against other libraries
# make lint          check style and known vulnerabilities
# make docs          build the documentation as a site
# make clean         remove the outputs of the pipeline
# make pins          pin the newest packages
PYTHON ?= python3
VENV := .venv
PIP_AUDIT := 2.10.1
PIP := $(VENV)/bin/pip install --quiet --disable-pip-version-check --no-compile
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Containers often set this variable; every stage would then compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: repro test test-fast test-slow check-repro check-sonyc table experiments bench leaderboard lint docs clean pins

# The challenge's baseline and the report's first system run first, so that first metrics appear early.
repro: $(VENV)/installed
	@echo "nine systems on a synthetic city: the first metrics after four to five minutes, all after ten to fourteen (on two cores)"
	dvc repro evaluate@baseline_coarse evaluate@cnn_vggish_coarse
	dvc repro
	@git diff --quiet -- dvc.lock 2> /dev/null || echo "dvc.lock and metrics/ differ from the committed ones, as on any other processor." \
	  "Commit them before the first experiment: git commit -am 'Baseline of this machine'"

test: $(VENV)/installed
	pytest -n 3 --dist loadscope --no-loadscope-reorder -m 'not slow'

test-fast: $(VENV)/installed
	pytest -n 2 -m 'not slow and not whole'

test-slow: $(VENV)/installed
	pytest -n 2 --dist worksteal -m slow

check-sonyc: $(VENV)/installed
	PYTHONPATH=. python tests/check_sonyc.py

check-repro: $(VENV)/installed
	PYTHONPATH=. python tests/check_repro.py

table: $(VENV)/installed
	dvc repro --quiet table
	@cat metrics/table.md

experiments: $(VENV)/installed
	@dvc exp show --json | python -m stages.experiments

bench: $(VENV)/installed
	python -m benchmarks

leaderboard: $(VENV)/installed
	python -m stages.leaderboard $(SET)
	@cat leaderboard/board/table.md

lint: $(VENV)/installed
	ruff check .
	ruff format --check .
	@$(PIP) pip-audit==$(PIP_AUDIT)
	pip-audit --disable-pip --requirement requirements-hashes.txt

docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet --strict

clean:
	rm -rf data/raw data/labels data/augmented data/features data/predictions data/submission
	rm -rf models/*/ models/.*.partial dvc_plots

$(VENV): $(VENV)/installed

# Packages with hashes first, then torch, whose files differ between platforms.
$(VENV)/installed: requirements.txt requirements-hashes.txt
	@$(PYTHON) -c 'import sys; (3, 11) <= sys.version_info[:2] <= (3, 13) or sys.exit("Python 3.11 to 3.13 is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) --require-hashes --no-deps -r requirements-hashes.txt
	$(PIP) -r requirements.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

# The version of torch's CPU build has a suffix that only its own index has; the version without it works everywhere.
pins:
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.in
	( echo '# Every package, pinned; made by `make pins` from requirements.in.'; \
	  $(VENV)/bin/pip freeze --all | grep -v '^pip==' | sed 's/+cpu$$//' | sort -f ) > requirements.txt
	$(PIP) pip-tools
	( echo '# Every package but torch, pinned with the hashes of all its files; made by `make pins`. The torch of each'; \
	  echo '# platform and index is another file, and brings other packages: pip takes hashes for all or for none.'; \
	  grep -v '^torch==' requirements.txt | $(VENV)/bin/pip-compile --quiet --generate-hashes --no-strip-extras --allow-unsafe \
	    --no-header --no-annotate --no-emit-options --output-file=- - | grep -v '^ *#' ) > requirements-hashes.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $(VENV)/installed

# make demo | make test | make test-slow | make test-long | make lint | make wheels: each sets up what it needs in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := out/demo
# training steps of the demo; 0 takes its own
STEPS := 0
READY := $(VENV)/.ready
# modules are compiled once: to compile all of torch anew takes each process longer than to import it
unexport PYTHONDONTWRITEBYTECODE

# Real data and weights for research, where they exist next to the checkout.
ifneq ($(wildcard ../shared/data),)
export EDGEMTL_DATA ?= $(abspath ../shared/data)
export EDGEMTL_WEIGHTS ?= $(abspath ../shared/weights)
endif

.PHONY: setup demo test test-slow test-long lint format wheels docs bench-rgbir bench-joint bench-methods bench-live bench-soak bench-time bench-reopen bench-fuzz bench-mistakes bench-engine bench-prune bench-starts bench-speed bench-zoo bench-cpp bench-robot gpu bench-destroy bench-deploy bench-shrink bench-shrink-wide bench-latency clean
setup: $(READY)

# .ci/venv makes .venv with Python 3.11 or newer, by uv where PYTHON is older. opencv-python needs the system's libGL;
# where that is missing opencv-python-headless takes its place.
$(READY): pyproject.toml runtime/pyproject.toml export/pyproject.toml constraints.txt
	@.ci/venv $(VENV) $(PYTHON)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -c constraints.txt -e runtime -e export -e '.[dev,weights,yolo]'
	@$(BIN)/python -c 'import cv2' 2>/dev/null || { \
	  echo 'cv2 does not load here (libGL missing?): installing opencv-python-headless instead; --show needs a desktop'; \
	  $(BIN)/uv pip uninstall --quiet --python $(BIN)/python opencv-python; \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt opencv-python-headless; }
	@touch $@

demo: setup
	$(BIN)/edgemtl demo --out $(OUT) --steps $(STEPS) --overwrite

# a file's tests stay together, those against the clock follow one another (tests/conftest.py); a test that hangs
# is named, with every thread's stack, and the others go on
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --timeout-method thread

test: setup
	$(PYTEST) --timeout 300 -m 'not slow'

# whole trainings, several processes, killed programs: what `make test` holds with less in it
test-slow: setup
	$(PYTEST) --timeout 900 -m 'slow and not long'

# what takes minutes each: before a release
test-long: setup
	$(PYTEST) --timeout 1800 -m long

CPP = $(shell find runtime/cpp -name "*.[ch]" -o -name "*.[ch]pp")
lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)
	$(BIN)/ruff check --fix .

wheels: setup
	rm -rf dist
	for room in runtime export .; do $(BIN)/uv build --quiet --wheel --out-dir dist $$room; done

# the documentation's site, in out/site: nothing is fetched, a broken link is an error
docs: setup
	$(BIN)/python docs/site

bench-rgbir: setup
	$(BIN)/python benchmarks/rgbir.py

bench-joint: setup
	$(BIN)/python benchmarks/joint.py

bench-methods: setup
	$(BIN)/python benchmarks/methods.py

# roboflow's inference wants older libraries than ours: an environment of its own. It names three packages of one cv2,
# of which the one without windows is enough; ONNX Runtime and torch are the ones that the others run with.
OTHERS := out/peers
$(OTHERS)/.ready: $(READY)
	@mkdir -p $(OTHERS)
	printf '%s\n' "opencv-python; python_version < '3'" "opencv-contrib-python; python_version < '3'" \
	  opencv-python-headless==4.11.0.86 > $(OTHERS)/override.txt
	grep -E '^(torch|torchvision|onnxruntime)==' constraints.txt >> $(OTHERS)/override.txt
	$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python $(OTHERS)/venv
	timeout 600 $(BIN)/uv pip install --quiet --python $(OTHERS)/venv/bin/python \
	  --override $(OTHERS)/override.txt inference==1.8.3
	@touch $@

# without roboflow's environment its row says so, and the others are measured
bench-live: setup
	-$(MAKE) $(OTHERS)/.ready
	$(BIN)/python benchmarks/live.py --other-python $(OTHERS)/venv/bin/python

# from Enter to the error
bench-mistakes: setup
	$(BIN)/python benchmarks/mistakes.py --times 5

# what a sparsifier adds to a training step, and more of the engine as it comes
bench-engine: setup
	$(BIN)/python benchmarks/engine.py

bench-destroy: setup
	$(BIN)/python benchmarks/destroy.py

bench-soak: setup
	$(BIN)/python benchmarks/soak.py

# stamps and pairs against the time in the pictures
bench-time: setup
	$(BIN)/python benchmarks/time_pairs.py

# cameras by topic, next to RTSP
bench-robot: setup
	$(BIN)/python benchmarks/robot.py

bench-reopen: setup
	$(BIN)/python benchmarks/reopen.py

bench-fuzz: setup
	$(BIN)/python benchmarks/fuzz.py

# the C++ library next to Python's runtime; BUNDLES: of your own, besides those written here
BUNDLES ?=
bench-cpp: setup
	$(BIN)/python benchmarks/cpp.py $(BUNDLES)

# the runs to make bundles of: trainings of the benchmarks above
RUNS ?= out/bench/rgbir/aligned_sparse-0
bench-deploy: setup
	$(BIN)/python benchmarks/deploy.py $(RUNS)
	$(BIN)/python benchmarks/startup.py $$(ls -d out/bench/deploy/*-onnxruntime | head -n 1)

# the peers and the networks of other libraries that only the comparison needs
PEERS := $(VENV)/.peers
$(PEERS): $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt torch-pruning torch-simplify timm
	@touch $@

bench-shrink: $(PEERS)
	$(BIN)/python benchmarks/shrink.py
	$(BIN)/python benchmarks/shrink.py --wide

# networks that others trained, made smaller and faster
bench-prune: $(PEERS)
	$(BIN)/python benchmarks/prune.py

# what a training starts from, and the box head beside ultralytics'
bench-starts: setup
	$(BIN)/python benchmarks/starts.py

# everything of ours that computes on an NVIDIA GPU, in eight minutes; without one it skips
gpu: setup
	$(BIN)/python benchmarks/gpu.py

# our own networks by milliseconds
bench-speed: setup
	$(BIN)/python benchmarks/speed.py

# sizes and milliseconds in the documentation's table of networks
bench-zoo: setup
	$(BIN)/python benchmarks/zoo.py

bench-shrink-wide: $(PEERS)
	$(BIN)/python benchmarks/shrink.py --wide

bench-latency: $(PEERS)
	$(BIN)/python benchmarks/latency.py

clean:
	rm -rf out dist .pytest_cache .mypy_cache .ruff_cache

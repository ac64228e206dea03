NAME = $(shell sed -n 's/^ *"name": "\(.*\)",/\1/p' bundle.json)
VERSION = $(shell sed -n 's/^ *"version": "\(.*\)",/\1/p' bundle.json)

SANJI_VER ?= 1.0
RUN_DIR = /usr/lib/sanji-$(SANJI_VER)/$(NAME)
INSTALL_DIR = $(DESTDIR)$(RUN_DIR)
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready-tests

# What an installed bundle consists of, and what its archive holds beside that.
TARGET_FILES = bundle.json index.py requirements.txt LICENSE README.md CHANGELOG.md \
	$(wildcard data/*.factory schema/*.json) \
	$(shell find puppetmaster -name '*.py' -o -path 'puppetmaster/dashboard/*' -type f)
DIST_FILES = $(TARGET_FILES) Makefile pyproject.toml $(shell git ls-files tests sandbox benchmarks schema docs .ci 2>/dev/null)
ARCHIVE = sanji-bundle-$(NAME)-$(VERSION)

.DEFAULT_GOAL := help
.PHONY: all help demo demo-bridged sandbox run test torture soak mutants lint format bench install uninstall dist clean distclean

help: ## Say what there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

all: $(VENV)/.ready ## Make the environment the bundle runs in

$(VENV)/.ready: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip check
	@touch $@

$(VENV)/.ready-sandbox: $(VENV)/.ready sandbox/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r sandbox/requirements.txt
	$(BIN)/python -m pip check
	@touch $@

$(READY): $(VENV)/.ready-sandbox tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r tests/requirements.txt
	$(BIN)/python -m pip check
	@touch $@

demo: $(VENV)/.ready-sandbox ## Watch a batch reach simulated gateways over a real broker
	@$(BIN)/python -m sandbox.demo

demo-bridged: $(VENV)/.ready-sandbox ## The same with gateways that have brokers of their own; one is switched off
	@$(BIN)/python -m sandbox.demo --bridged

sandbox: $(VENV)/.ready-sandbox ## The demo's broker, controller and gateways, and no jobs: to try things
	@$(BIN)/python -m sandbox.demo --idle

run: $(VENV)/.ready ## Run the bundle on the broker of BROKER_PORT_1883_TCP_ADDR and _PORT
	@$(BIN)/python index.py

test: $(READY) ## Run all tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

torture: $(READY) ## Kill the bundle 400 times, a quarter of it on bridged gateways, 100,000 malformed inputs, let disk and clock fail
	$(BIN)/python -m tests.torture --kills 300 --bridged 100 --seed 1 --inputs 100000
	$(BIN)/python -m tests.torture.faults --seeds 4 --seed 1

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

install: ## Install the bundle below $(DESTDIR), with an environment of its own
	install -d $(INSTALL_DIR)
	@for file in $(TARGET_FILES); do install -D -m 644 $$file $(INSTALL_DIR)/$$file || exit 1; done
	chmod 700 $(INSTALL_DIR)/data
	$(PYTHON) -m venv $(INSTALL_DIR)/venv
	$(INSTALL_DIR)/venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	install -d $(DESTDIR)/usr/bin
	printf '#!/bin/sh\nPYTHONPATH=%s exec %s/venv/bin/python -P -m puppetmaster "$$@"\n' \
		$(RUN_DIR) $(RUN_DIR) > $(DESTDIR)/usr/bin/$(NAME)
	chmod 755 $(DESTDIR)/usr/bin/$(NAME)
	@echo "installed: $(INSTALL_DIR)/venv/bin/python $(INSTALL_DIR)/index.py, and the command $(NAME)"

uninstall: ## Remove the installed bundle; what it has stored in data/ stays
	@for file in $(TARGET_FILES); do rm -f $(INSTALL_DIR)/$$file; done
	rm -rf $(INSTALL_DIR)/venv $(DESTDIR)/usr/bin/$(NAME)
	@find $(INSTALL_DIR) -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
	@find $(INSTALL_DIR) -depth -type d -empty -delete 2>/dev/null || true

dist: ## Pack the sources into $(ARCHIVE).tar.gz
	tar --transform 's,^,$(ARCHIVE)/,' -czf $(ARCHIVE).tar.gz $(sort $(DIST_FILES))
	@echo "packed: $(ARCHIVE).tar.gz"

clean: ## Remove what tests and tools leave
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis test-output $(ARCHIVE).tar.gz
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## Remove the environment too
	rm -rf $(VENV)

# All paths are relative to this folder: its own path may then have spaces in it.
SHELL := /bin/bash
PY := .venv/bin/python

.PHONY: help setup demo test browser check manual bench faults django-suite matrix clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo          the demo site with private servers: a measured workload, then http://127.0.0.1:8000'
	@echo '                   (PORT=8001 another port, SERVE=0 only the workload; DATABASE_URL, REDIS_URL your own servers;'
	@echo '                   DATABASE_URL names an empty database; DEMO_RUN_DIR=folder keeps the data elsewhere than in .run)'
	@echo 'make test          all tests, on private servers (ARGS="-k name -x" goes to pytest; ARGS="-n 0": one at a time)'
	@echo 'make browser       the demo site in a real browser (Debian package chromium, or POOLING_BROWSER_PROGRAM; ARGS as above);'
	@echo '                   what it looked like is in .run/browser'
	@echo 'make check         ruff, mypy, import rules, Django checks, migrations up to date, the manual without a broken link'
	@echo 'make manual        the manual: .run/manual/index.html'
	@echo 'make faults        a bank under faults, its invariants, pictures in .run/faults (ARGS="--seed 7 --seconds 60")'
	@echo 'make bench         pool, locks and cache beside their peers; data and plots in benchmarks/results'
	@echo '                   (ARGS="--only request --rounds 9"; ARGS=--readme: also into the README and the manual)'
	@echo 'make django-suite  Django'"'"'s own tests on this backend (LABELS="backends basic", PARALLEL=2; STOCK=1 on Django'"'"'s backend,'
	@echo '                   COMPARE=1 on both; RELEASE=transaction, START_TRANSACTION=1: these options of the pool;'
	@echo '                   TMPDIR=/dev/shm keeps the data in memory)'
	@echo 'make matrix        all tests on other servers, Pythons and Djangos as far as they can be had (ARGS="--list")'
	@echo 'make clean         removes everything that these targets made'
	@echo 'PYTHON=python3.12  chooses the interpreter, when .venv is made'

setup:
	@scripts/bootstrap.sh

demo: setup
	@$(PY) -m demo_site.run

test: setup
	@$(PY) -m pytest -n auto $(ARGS)

browser:
	@scripts/bootstrap.sh browser
	@$(PY) -m pytest tests/browser $(ARGS)

# Needs no server; that the history of migrations cannot be compared with a database is then no news.
check: setup
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy pooling scripts benchmarks faults demo_site/servers.py
	@$(PY) scripts/import_rules.py
	@$(PY) manage.py check
	@$(PY) -W "ignore:Got an error checking a consistent:RuntimeWarning" manage.py makemigrations --check --dry-run
	@$(PY) -m mkdocs build --strict

# The banner of the theme is about a version of MkDocs that is not the one required.
check manual: export NO_MKDOCS_2_WARNING := 1
manual: setup
	@$(PY) -m mkdocs build --strict
	@echo 'The manual is in .run/manual/index.html'

bench: setup
	@$(PY) -m benchmarks $(ARGS)

faults: setup
	@$(PY) -m faults $(ARGS)

django-suite: setup
	@$(PY) -m scripts.django_suite $(if $(filter 1,$(STOCK)),--stock) $(if $(filter 1,$(COMPARE)),--compare) \
		$(if $(PARALLEL),--parallel $(PARALLEL)) $(if $(RELEASE),--release $(RELEASE)) \
		$(if $(filter 1,$(START_TRANSACTION)),--start-transaction) $(LABELS)

matrix: setup
	@$(PY) -m scripts.matrix $(ARGS)

clean:
	@rm -rf .run .cache build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find benchmarks/results -type f ! -name latest.json -delete
	@if [ -L .venv ]; then rm -f .venv; else rm -rf .venv; fi
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

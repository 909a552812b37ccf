# `make run` starts the whole fleet on this machine. `make help` lists the other targets.

VENV := .venv
PY := $(VENV)/bin/python
RUNTIME := $(VENV)/.runtime
READY := $(VENV)/.complete
OWN := $(wildcard agents/requirements.txt)
OWN_READY := $(if $(OWN),$(VENV)/.agents)
PROTOC := $(PY) -m grpc_tools.protoc
COMPILE := $(PY) -m uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q

# Prints the first suitable interpreter. Each one on the PATH is run, because a version manager's shim may exist and fail,
# and Debian's Python has no venv. Python 3.14 is not suitable: grpcio 1.70 has no wheels for it.
define FIND_PYTHON
found=
IFS=:
for name in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3 python); do
    case $$name in */*) places=$${name%/*} name=$${name##*/} ;; *) places=$$PATH ;; esac
    for place in $$places; do
        python=$${place:-.}/$$name
        version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        case $$version in
        3.11 | 3.12 | 3.13)
            "$$python" -c 'import ensurepip, venv' 2>/dev/null && echo "$$python" && exit 0
            version="$$version without venv" ;;
        esac
        case "$$found, " in *", $$version, "*) ;; *) found="$$found, $$version" ;; esac
    done
done
found=$${found#, }
echo "chatfleet needs Python 3.11, 3.12 or 3.13 with venv; found $${found:-none};" \
     "install one, such as: apt-get install python3 python3-venv (or name one: make PYTHON=/path/to/python3.12)" >&2
exit 1
endef

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while read -r target words; do printf '  make %-14s %s\n' "$$target" "$$words"; done

.PHONY: run
run: $(RUNTIME) $(OWN_READY) ## Run model, host, gateway and WORKERS=2 workers here until Ctrl-C
	@$(PY) -m fleet

.PHONY: identities
identities: $(RUNTIME) ## Create certificates and tokens for members on several machines; ARGS="--host NAME"
	@$(PY) -m fleet.security identities $(ARGS)

.PHONY: upgrade
upgrade: ## Build the images and bring running containers to them, without losing a stream
	@bash deploy/upgrade.sh $(ARGS)

.PHONY: test
test: setup ## Run the tests, or some: ARGS="tests/unit", ARGS="-k lane"
	@$(if $(strip $(ARGS)),,echo 'All tests take about 20 minutes on two cores; `make test ARGS=tests/unit` takes one to two.')
	@$(PY) -m pytest $(ARGS)

.PHONY: lint
lint: setup ## Check style and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy .

.PHONY: bench
bench: setup ## Measure what the fleet adds, beside other designs and PEERS=litellm,production-stack,smg
	@$(PY) -m bench --runs $(or $(RUNS),3) --peers "$(PEERS)" --workloads "$(WORKLOADS)" $(ARGS)

.PHONY: protos
protos: setup ## Generate protos/chat_pb2.py and .pyi from protos/chat.proto
	@$(PROTOC) -I. --python_out=. --pyi_out=. protos/chat.proto

.PHONY: monitoring
monitoring: setup ## Make alert rules and dashboards in deploy/ from the catalogue of metrics
	@$(PY) -m monitoring

.PHONY: requirements
requirements: setup ## Pin the packages that pyproject.toml names; pinned versions stay, unless ARGS=--upgrade
	@$(COMPILE) $(ARGS) pyproject.toml --group model --group dev -o requirements-dev.txt
	@$(COMPILE) pyproject.toml -c requirements-dev.txt -o requirements.txt
	@$(COMPILE) --group pyproject.toml:model -c requirements-dev.txt -o requirements-model.txt

.PHONY: clean
clean: ## Remove .venv and every cache
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: setup
setup: $(READY) $(OWN_READY) ## Create .venv with everything that the other targets need

# Created from nothing if the requirements have changed, it was not completed, or its interpreter is gone.
ifneq ($(shell $(PY) -c 'print("runs")' 2>/dev/null),runs)
.PHONY: $(RUNTIME)
endif
INSTALL = @python=$$(sh -c "$$FIND_PYTHON") && "$$python" -m installation $(VENV)
$(RUNTIME) $(READY) $(OWN_READY): export FIND_PYTHON := $(FIND_PYTHON)
$(RUNTIME): requirements.txt requirements-model.txt
	$(INSTALL) run

$(READY): requirements-dev.txt $(RUNTIME)
	$(INSTALL) test

$(VENV)/.agents: $(OWN) $(RUNTIME)
	$(INSTALL) own

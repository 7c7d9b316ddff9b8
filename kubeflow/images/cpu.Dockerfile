# The image that every step of the pipeline can run in; CPU only. From the repository's root:
#
#   docker build -f kubeflow/images/cpu.Dockerfile -t headrace:0.1.0 .
#
# BASE needs glibc >= 2.39, which the wheels of ml-metadata and TensorFlow Data Validation are built for;
# give one by digest to fix it: --build-arg BASE=debian@sha256:...
ARG BASE=debian:trixie-slim

# hadolint ignore=DL3006
FROM ${BASE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
# A compiler, since pyfarmhash has no wheel for this Python. Versions are the suite's.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends build-essential python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.in requirements.lock ./
# Tools first, by hash; then the runtime's sections of requirements.in, held to the lock and its hashes.
RUN awk '/^[a-z0-9]/ { keep = /^(uv|setuptools|wheel)==/ } keep' requirements.lock > tools.lock \
 && awk '/^# \[/ { keep = /\[(base|lite|client|serving|pipeline)\]/ } keep' requirements.in > runtime.in \
 && python3 -m venv /opt/tools \
 && /opt/tools/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement tools.lock \
 && python3 -m venv --without-pip /opt/headrace \
 && /opt/tools/bin/uv pip install --python /opt/headrace/bin/python --no-cache --compile-bytecode \
      --constraint requirements.lock --requirement runtime.in
COPY setup.py pyproject.toml README.md LICENSE NOTICE ./
COPY headrace headrace
COPY data data
COPY serving serving
COPY components components
COPY pipeline pipeline
COPY kubeflow kubeflow
RUN VIRTUAL_ENV=/opt/tools /opt/tools/bin/uv build --wheel --no-build-isolation --out-dir /wheels . \
 && /opt/tools/bin/uv pip install --python /opt/headrace/bin/python --no-cache --compile-bytecode --no-deps \
      /wheels/*.whl \
 && /opt/headrace/bin/python -m headrace.kubeflow.sbom /opt/headrace/sbom.cdx.json

# hadolint ignore=DL3006
FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 1000 headrace \
 && useradd --uid 1000 --gid 1000 --create-home headrace \
 && install --directory --owner=1000 --group=1000 /mnt/headrace
COPY --from=build /opt/headrace /opt/headrace
ENV PATH=/opt/headrace/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=1
LABEL org.opencontainers.image.title="headrace" \
      org.opencontainers.image.description="From one YAML file to gated, served models: the steps of the pipeline" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      headrace.accelerator="cpu" \
      headrace.sbom="/opt/headrace/sbom.cdx.json"
WORKDIR /home/headrace
USER 1000:1000
HEALTHCHECK --interval=60s --timeout=30s --start-period=10s CMD ["headrace", "--version"]
CMD ["headrace", "--help"]

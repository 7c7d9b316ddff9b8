# The CPU image and NVIDIA's libraries, for the steps that train. After the CPU image:
#
#   docker build -f kubeflow/images/gpu.Dockerfile -t headrace:0.1.0-gpu .
#
# The driver comes from the machine, through NVIDIA's container toolkit. gpu.lock holds what
# tensorflow[and-cuda] adds to tensorflow: `uv pip compile --generate-hashes`, its nvidia-* entries.
ARG BASE=debian:trixie-slim
ARG HEADRACE=headrace:0.1.0

# hadolint ignore=DL3006
FROM ${BASE} AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY kubeflow/images/gpu.lock ./
RUN python3 -m venv /opt/tools \
 && /opt/tools/bin/pip install --no-cache-dir --no-deps --no-compile --require-hashes --target /nvidia \
      --requirement gpu.lock

# hadolint ignore=DL3006
FROM ${HEADRACE}
# TensorFlow looks for these libraries beside itself.
COPY --from=build /nvidia/ /opt/headrace/lib/python3.13/site-packages/
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TF_FORCE_GPU_ALLOW_GROWTH=true
LABEL org.opencontainers.image.title="headrace-gpu" \
      org.opencontainers.image.description="From one YAML file to gated, served models: the steps that train, on NVIDIA GPUs" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      headrace.accelerator="nvidia" \
      headrace.sbom="/opt/headrace/sbom.cdx.json"
USER 1000:1000
HEALTHCHECK --interval=60s --timeout=30s --start-period=10s CMD ["headrace", "--version"]
CMD ["headrace", "--help"]

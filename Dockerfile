# syntax=docker/dockerfile:1
# Two images from one file:
#   docker build --target operator -t oikyo-operator .   the controller; no torch
#   docker build --target trainer  -t oikyo-trainer  .   prepares, trains, evaluates, serves; no kopf
# Libraries come from the hash-locked requirements/*.txt in early layers, the project in the last one.
# BASE_IMAGE needs nothing but Python 3.13 with venv; a base without it gets it from apt.
ARG BASE_IMAGE=debian:trixie-slim
ARG UV_VERSION=0.13.8

FROM ${BASE_IMAGE} AS base
RUN if ! python3 -c 'import ensurepip' 2>/dev/null; then \
      apt-get update \
      && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv \
      && rm -rf /var/lib/apt/lists/*; \
    fi
# A name for the number: getpass and torch ask for it. HOME and every cache are below /tmp, where the
# pod mounts an emptyDir: the root file system is read-only.
RUN grep -q '^oikyo:' /etc/passwd \
    || { echo 'oikyo:x:10001:' >> /etc/group \
         && echo 'oikyo:x:10001:10001:oikyo:/tmp:/usr/sbin/nologin' >> /etc/passwd; }
ENV PATH=/opt/oikyo/bin:$PATH \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/cache \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /tmp

# uv comes and goes within one layer: a mount from another stage would be neater, but older buildah
# loses such a mount when that stage is cached.
FROM base AS operator-libraries
ARG UV_VERSION
COPY requirements/operator.txt /tmp/requirements.txt
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet --no-cache-dir "uv==${UV_VERSION}" \
    && python3 -m venv --without-pip /opt/oikyo \
    && /opt/uv/bin/uv pip install --python /opt/oikyo/bin/python --system-certs --no-cache --compile-bytecode \
         --no-deps --require-hashes --requirement /tmp/requirements.txt \
    && rm -r /opt/uv /tmp/requirements.txt

FROM base AS trainer-libraries
ARG UV_VERSION
COPY requirements/trainer.txt /tmp/requirements.txt
# DeepSpeed has no wheel and needs torch to be built: it gets its own stage.
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet --no-cache-dir "uv==${UV_VERSION}" \
    && python3 -m venv --without-pip /opt/oikyo \
    && sed '/^deepspeed==/,/[^\\]$/d' /tmp/requirements.txt > /tmp/wheels.txt \
    && /opt/uv/bin/uv pip install --python /opt/oikyo/bin/python --system-certs --no-cache --compile-bytecode \
         --no-deps --no-build --require-hashes --requirement /tmp/wheels.txt \
    && rm -r /opt/uv /tmp/requirements.txt /tmp/wheels.txt

# On CPU, DeepSpeed compiles its shared-memory op when a run starts (a minute, and g++ in the image)
# and does not fall back to gloo when it cannot. Compiled here once, it is merely imported there.
FROM trainer-libraries AS deepspeed
ARG UV_VERSION
RUN apt-get update && apt-get install --yes --no-install-recommends g++ python3-dev
COPY requirements/trainer.txt /tmp/requirements.txt
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet --no-cache-dir "uv==${UV_VERSION}" \
    && sed -n '/^deepspeed==/,/[^\\]$/p' /tmp/requirements.txt > /tmp/deepspeed.txt \
    && DS_ACCELERATOR=cpu DS_BUILD_OPS=0 DS_BUILD_SHM_COMM=1 DS_ENABLE_NINJA=1 MAX_JOBS=2 \
       /opt/uv/bin/uv pip install --python /opt/oikyo/bin/python --system-certs --no-cache --compile-bytecode \
         --no-deps --no-build-isolation --require-hashes --requirement /tmp/deepspeed.txt \
         --target /opt/deepspeed \
    && rm -rf /opt/deepspeed/bin

FROM operator-libraries AS operator
COPY LICENSE /usr/share/doc/oikyo/LICENSE
COPY operator/oikyo /opt/oikyo/lib/python3.13/site-packages/oikyo
# Byte-code that needs no clock, and the version that importlib.metadata tells.
ARG VERSION=0.1.0
RUN cd /opt/oikyo/lib/python3.13/site-packages \
    && mkdir "oikyo-${VERSION}.dist-info" \
    && printf 'Metadata-Version: 2.1\nName: oikyo\nVersion: %s\n' "${VERSION}" \
         > "oikyo-${VERSION}.dist-info/METADATA" \
    && python -m compileall -q --invalidation-mode unchecked-hash oikyo
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["python", "-m", "oikyo.controller"]
# Last, so that a new revision makes no layer anew.
ARG REVISION=unknown
LABEL org.opencontainers.image.title="oikyo operator" \
      org.opencontainers.image.description="Controller of FineTuneJob, ModelVersion and ModelEndpoint" \
      org.opencontainers.image.vendor="oikyo" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM trainer-libraries AS trainer
ENV HF_HOME=/tmp/cache/huggingface \
    HF_HUB_DISABLE_TELEMETRY=1 \
    TORCHINDUCTOR_CACHE_DIR=/tmp/cache/torchinductor \
    TORCH_EXTENSIONS_DIR=/tmp/cache/torch_extensions \
    TRITON_CACHE_DIR=/tmp/cache/triton
COPY --from=deepspeed /opt/deepspeed /opt/oikyo/lib/python3.13/site-packages
COPY LICENSE /usr/share/doc/oikyo/LICENSE
# Of the operator's package the trainer gets the contract alone.
COPY operator/oikyo/__init__.py /opt/oikyo/lib/python3.13/site-packages/oikyo/
COPY operator/oikyo/api /opt/oikyo/lib/python3.13/site-packages/oikyo/api
COPY trainer_image/oikyo_trainer /opt/oikyo/lib/python3.13/site-packages/oikyo_trainer
ARG VERSION=0.1.0
RUN cd /opt/oikyo/lib/python3.13/site-packages \
    && mkdir "oikyo-${VERSION}.dist-info" \
    && printf 'Metadata-Version: 2.1\nName: oikyo\nVersion: %s\n' "${VERSION}" \
         > "oikyo-${VERSION}.dist-info/METADATA" \
    && python -m compileall -q --invalidation-mode unchecked-hash oikyo oikyo_trainer
USER 10001:10001
EXPOSE 9400 8000
ENTRYPOINT ["python", "-m", "oikyo_trainer"]
# Last, so that a new revision makes no layer anew.
ARG REVISION=unknown
LABEL org.opencontainers.image.title="oikyo trainer" \
      org.opencontainers.image.description="Stages of a FineTuneJob: prepare, train, evaluate, serve" \
      org.opencontainers.image.vendor="oikyo" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# What a GPU alone has a use for: bitsandbytes (QLoRA, AdamW8bit) and Liger's fused kernels. Any other pod would
# only wait for bitsandbytes to be imported.
FROM trainer AS trainer-gpu
ARG UV_VERSION
USER 0:0
# Triton compiles the launcher of Liger's kernels where they run.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/*
COPY requirements/gpu.txt /tmp/requirements.txt
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --quiet --no-cache-dir "uv==${UV_VERSION}" \
    && /opt/uv/bin/uv pip install --python /opt/oikyo/bin/python --system-certs --no-cache --compile-bytecode \
         --no-deps --no-build --require-hashes --requirement /tmp/requirements.txt \
    && rm -r /opt/uv /tmp/requirements.txt
USER 10001:10001
LABEL org.opencontainers.image.title="oikyo trainer for GPUs"

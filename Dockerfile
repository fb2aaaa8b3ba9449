# docker build -t migrate .
#
# Behind a TLS-inspecting proxy, or with an index mirror (both are used while building and leave nothing in the image):
#   --secret id=cacert,src=/etc/ssl/certs/ca-certificates.crt    --secret id=pipconf,src=$HOME/.config/pip/pip.conf
# No `# syntax=` line: it would make every engine fetch a frontend image first.
ARG PYTHON_IMAGE=python:3.13-slim

# ---- slim: a shell, a package database and the program; for debugging (`--target slim`)
FROM ${PYTHON_IMAGE} AS slim
COPY requirements.lock /tmp/requirements.lock
RUN --mount=type=secret,id=cacert,target=/run/secrets/ca.crt \
    --mount=type=secret,id=pipconf,target=/etc/pip.conf \
    set -e; \
    if [ -s /run/secrets/ca.crt ]; then export PIP_CERT=/run/secrets/ca.crt; fi; \
    python3 -m venv /tmp/pip; \
    /tmp/pip/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile \
        --require-hashes --no-deps --only-binary=:all: --target /app/lib -r /tmp/requirements.lock; \
    rm -rf /tmp/pip
COPY entrypoint.py /app/
COPY migrator /app/migrator
COPY sql /app/sql
RUN chmod -R a+rX /app
ENV PYTHONPATH=/app/lib PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 LANG=C.UTF-8
WORKDIR /app
USER 65532:65532
HEALTHCHECK NONE
ENTRYPOINT ["python3", "/app/entrypoint.py"]

# ---- build: a directory with all that the program needs at run time
FROM slim AS build
USER 0:0
RUN --mount=type=bind,source=image/minimal.py,target=/tmp/minimal.py python3 /tmp/minimal.py /minimal

# ---- sbom: what that directory holds, as a file (`docker build --target sbom --output build .`)
FROM build AS inventory
RUN --mount=type=bind,source=image/sbom.py,target=/tmp/sbom.py python3 /tmp/sbom.py /minimal >/migrate.cdx.json

FROM scratch AS sbom
COPY --from=inventory /migrate.cdx.json /

# ---- migrate: no shell, no package manager, no compiler; any user, read-only root
FROM scratch
COPY --from=build /minimal /
ENV PYTHONPATH=/app/lib PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 LANG=C.UTF-8
WORKDIR /app
USER 65532:65532
HEALTHCHECK NONE
ENTRYPOINT ["python3", "/app/entrypoint.py"]
ARG PYTHON_IMAGE=python:3.13-slim VERSION="" REVISION=""
LABEL org.opencontainers.image.title="migrate" \
      org.opencontainers.image.description="One-shot schema migration for ClickHouse and MySQL" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"

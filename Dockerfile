# threadlog with the graphs of one application: every process of the cluster is started from this image.
#
#   docker build -t threadlog .                                          the server alone, with the example application
#   docker build -t my-app --build-arg APP=path/to/my/app .              with yours (the folder that has langgraph.json)
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/threadlog
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY engine engine
COPY projections projections
COPY api api
COPY deploy deploy
COPY src src
RUN /opt/threadlog/bin/pip install -c requirements.lock '.[embedded,kafka,streams,tracing,encryption,example]'
ARG APP=deploy/examples/support_agent
COPY ${APP} /app
RUN if [ -f /app/requirements.txt ]; then /opt/threadlog/bin/pip install -r /app/requirements.txt; \
    elif [ -f /app/pyproject.toml ]; then /opt/threadlog/bin/pip install /app; fi

FROM python:3.12-slim-bookworm
RUN useradd --system --create-home --home-dir /app threadlog
COPY --from=build /opt/threadlog /opt/threadlog
COPY --from=build --chown=threadlog /app /app
USER threadlog
WORKDIR /app
ENV PATH=/opt/threadlog/bin:$PATH THREADLOG_HOST=0.0.0.0 THREADLOG_PORT=8000
EXPOSE 8000
# What an executor has in hand is passed on when it is told to stop: give it the time (docker stop -t, or stop_grace_period).
STOPSIGNAL SIGTERM
# Of `threadlog up` and `threadlog api`; an engine or executor serves no port.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"THREADLOG_PORT\"]}/ok', timeout=4)"]
CMD ["threadlog", "up"]

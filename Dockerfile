# One image for all commands, unlost and dlq. Runs as user 10001, and writes to /var/lib/unlost alone. It has what CODEC and
# OIDC_ISSUER need; for the library of a broker, build an image on top of it.
FROM python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7 AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
RUN python -m venv /opt/unlost
# What we depend on comes first: it changes seldom, and stays cached while our own code changes. Each file has its hash.
COPY ops/deploy/container/requirements.txt ops/deploy/container/build-requirements.txt ./
RUN /opt/unlost/bin/pip install --quiet --require-hashes --no-deps --requirement requirements.txt \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --quiet --require-hashes --no-deps --requirement build-requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY unlost unlost
COPY listener listener
COPY producer producer
COPY dlq dlq
COPY ops ops
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/unlost/bin/pip install --quiet --no-deps --no-index /wheels/*.whl

FROM python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7
RUN groupadd --system --gid 10001 unlost \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/unlost --shell /usr/sbin/nologin unlost \
    && install -d -o unlost -g unlost -m 0750 /var/lib/unlost \
    && for one in tokens producer listener console audit tools migrate prometheus postgres redis; do \
        install -d -o unlost -g unlost -m 0755 "/run/unlost-secrets/$one"; done
COPY --from=build /opt/unlost /opt/unlost
ENV PATH=/opt/unlost/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HOST=0.0.0.0
USER 10001:10001
WORKDIR /var/lib/unlost
VOLUME /var/lib/unlost
EXPOSE 3000 3005 3006 8080
STOPSIGNAL SIGTERM
# A listener's port unless PORT says otherwise. Unready is unhealthy: it is shown, and restarts nothing.
HEALTHCHECK --interval=5s --timeout=3s --start-period=40s --retries=2 \
    CMD python -m unlost.ops.deploy.container.probe "http://127.0.0.1:${PORT:-3000}/health/ready"
CMD ["unlost", "listener"]

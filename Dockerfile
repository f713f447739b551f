# The gateway with its dependencies, each as locked. It needs no privilege and writes to its volume
# alone:
#
#   docker build --tag gateway:0.1.0 .
#   docker run --read-only --cap-drop ALL --volume ./config:/etc/gateway:ro \
#       --volume gateway:/var/lib/gateway --publish 8080:8080 gateway:0.1.0
#
# The configuration must listen on 0.0.0.0, for the container's loopback is its own. Settings of pip
# that the build needs (another index, say) go in by --secret id=pip.conf,src=FILE, into no layer.

FROM python:3.11-slim-bookworm AS build
# Without pip: nothing is installed into it later.
RUN python3 -m venv --without-pip /opt/gateway
COPY requirements.txt /tmp/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m pip --python /opt/gateway/bin/python install --no-cache-dir \
        --require-hashes --only-binary :all: --requirement /tmp/requirements.txt
# Laid out as in the checkout: building a wheel would take a build tool without hashes.
COPY gateway /opt/gateway/app/gateway
COPY static /opt/gateway/app/static
COPY config /opt/gateway/app/config
RUN /opt/gateway/bin/python -m compileall -q /opt/gateway/app \
    && printf '%s\n' '#!/bin/sh' 'exec /opt/gateway/bin/python -P -m gateway "$@"' \
        > /opt/gateway/bin/gateway \
    && chmod 0755 /opt/gateway/bin/gateway \
    && mkdir /opt/data

FROM python:3.11-slim-bookworm
COPY --from=build /opt/gateway /opt/gateway
COPY --from=build --chown=10001:10001 /opt/data /var/lib/gateway
ENV PATH=/opt/gateway/bin:$PATH PYTHONPATH=/opt/gateway/app PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
# Here lies what the configuration names without a folder: data/buffer.db by default.
WORKDIR /var/lib/gateway
VOLUME /var/lib/gateway
# Events, admin; the console listens on loopback unless it has a token.
EXPOSE 8080 9090
ENTRYPOINT ["gateway"]
CMD ["run", "--config", "/etc/gateway/gateway.toml"]

# SPDX-License-Identifier: Apache-2.0
# certherd in a container: docker build -t certherd . && docker run --rm certherd version
#
# Configuration comes from the environment (CERTHERD_DOMAINS, MAILCOW_HOSTNAME, ...) or /etc/certherd/certherd.yml. /var/lib/certherd is
# everything durable: make it a volume. Works with debian:bookworm-slim as BASE, too.
ARG BASE=debian:trixie-slim

FROM ${BASE} AS build
WORKDIR /src
COPY dev ./
COPY tests/tools/packages.sh tests/tools/
RUN ./dev install-deps build
COPY . .
RUN meson setup /build --buildtype=release --prefix=/usr -Dtests=false \
    && ninja -C /build \
    && DESTDIR=/out meson install -C /build --no-rebuild
# The packages of the libraries that the program is linked with: their names differ from release to release.
RUN readelf -d /out/usr/bin/certherd | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' \
    | while read -r library; do dpkg-query -S "*/$library" | head -n 1 | cut -d : -f 1; done \
    | sort -u >/out/runtime-packages

FROM ${BASE}
RUN --mount=type=bind,from=build,source=/out,target=/out \
    apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates $(cat /out/runtime-packages) \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --user-group --home-dir /var/lib/certherd --shell /usr/sbin/nologin certherd \
    && install -d -o certherd -g certherd -m 0711 /var/lib/certherd
COPY --from=build /out/usr /usr
USER certherd
VOLUME /var/lib/certherd
ENTRYPOINT ["/usr/bin/certherd"]
CMD ["run"]

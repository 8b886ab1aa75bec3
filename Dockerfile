# seqgate as one static file in an empty image. Nothing here needs BuildKit; with it, the same layers are cached.
FROM rust:1-bookworm AS build
WORKDIR /build
# Static with glibc, which looks names up in DNS and in /etc/hosts without any file of its own. The explicit
# target keeps the flag from what runs while building.
ENV RUSTFLAGS="-C target-feature=+crt-static"
# A layer for the dependencies, which holds until Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
COPY bench/Cargo.toml bench/Cargo.toml
RUN mkdir src benches bench/src \
    && touch src/lib.rs benches/judge.rs benches/instructions.rs bench/src/lib.rs \
    && echo 'fn main() {}' > src/main.rs \
    && cargo build --release --locked --target "$(rustc --print host-tuple)"
COPY src src
# Newer than what the layer above has built of the empty files.
RUN touch src/lib.rs src/main.rs \
    && cargo build --release --locked --target "$(rustc --print host-tuple)" \
    && mv "target/$(rustc --print host-tuple)/release/seqgate" /seqgate

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="seqgate" \
      org.opencontainers.image.description="A transparent sidecar in front of an OpenClaw gateway: drops repeated agent events with bounded memory." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE /LICENSE
# The authorities that are trusted where SEQGATE_UPSTREAM is https and nothing else says whom to trust.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /seqgate /seqgate
# In a container loopback is nobody's. Publish the first port only; the second is for scrapes and probes.
ENV SEQGATE_LISTEN=0.0.0.0:18900 \
    SEQGATE_ADMIN_LISTEN=0.0.0.0:18901
EXPOSE 18900 18901
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=2m CMD ["/seqgate", "healthcheck"]
ENTRYPOINT ["/seqgate"]

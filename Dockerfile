ARG NODE=node:24-bookworm-slim
ARG BASE=debian:bookworm-slim

FROM ${NODE} AS packages
WORKDIR /app
COPY package.json package-lock.json ./

FROM packages AS build
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY src src
COPY routes routes
COPY schemas schemas
RUN npm run build && find dist -type f ! -name '*.js' -delete

FROM packages AS dependencies
# Types and maps are read by nothing that runs.
RUN npm ci --omit=dev --ignore-scripts \
  && find node_modules -type f \( -name '*.map' -o -name '*.[cm]ts' -o -name '*.ts' \) -delete

# Node's binary alone, without npm, yarn and headers.
FROM ${BASE}
COPY --from=packages /usr/local/bin/node /usr/local/bin/node
# Fails the build, not the start, where a Node to come needs a library that is not here.
RUN ["node", "--version"]

WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY package.json ./

# By number, so that Kubernetes' runAsNonRoot can tell; it owns no file.
USER 10001:10001
ENV HOST=0.0.0.0 PORT=3000
EXPOSE 3000
# 0.0.0.0 as a destination is this host itself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["node", "-e", "\
  const { HOST: host, PORT: port } = process.env; \
  require('node:http').get({ host, port, path: '/health' }, ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1)) \
    .on('error', () => process.exit(1))"]
# Node is PID 1 and gets the signals.
ENTRYPOINT ["node", "dist/src/server.js"]

# Last, since they change with every build.
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="sandbox-orchestrator" \
  org.opencontainers.image.description="Launches, bounds and kills the sandboxes in which AI agent workers run, over REST" \
  org.opencontainers.image.licenses="MIT" \
  org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}"

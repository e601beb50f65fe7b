# Written by `buildorch init`; yours to change.

FROM {{ base }} AS deps
WORKDIR /app
ENV NPM_CONFIG_UPDATE_NOTIFIER=false
{% if found.manager == "pnpm" %}
RUN --mount=type=cache,id=npm,target=/root/.npm \
    npm install --global --no-audit --no-fund pnpm@{{ found.manager_version }}
{% endif %}
{% if found.needs_sources %}
# All of it: an install takes scripts, patches or packages of the project's own.
COPY . .
{% else %}
COPY {{ read }} ./
{% endif %}
{% if found.manager == "npm" %}
RUN --mount=type=cache,id=npm,target=/root/.npm npm ci --no-audit --no-fund
{% elif found.manager == "pnpm" %}
RUN --mount=type=cache,id=pnpm,target=/root/.local/share/pnpm/store \
    pnpm install --frozen-lockfile --config.package-import-method=copy
{% else %}
RUN --mount=type=cache,id=npm,target=/root/.npm \
    --mount=type=cache,id=yarn,target=/usr/local/share/.cache/yarn \
    npx --yes yarn@{{ found.manager_version }} install --frozen-lockfile --non-interactive
{% endif %}

FROM {{ base }} AS builder
WORKDIR /app
ENV NEXT_TELEMETRY_DISABLED=1 \
    NPM_CONFIG_UPDATE_NOTIFIER=false
COPY . .
# Mounted, not copied: a copy would be one more layer of several 100 MB. What the build writes there is not kept.
RUN --mount=type=bind,from=deps,source=/app/node_modules,target=/app/node_modules,rw \
    --mount=type=cache,id={{ cache }}-next,target=/app/.next/cache \
    npm run build

FROM {{ base }} AS runtime
LABEL org.opencontainers.image.title={{ found.title | label }} \
      org.opencontainers.image.description={{ found.description | label }}
RUN addgroup -S -g 1001 nodejs && adduser -S -D -H -u 1001 -G nodejs nextjs
# Docker sets HOSTNAME to the container's own name, and the server listens on what it says.
ENV HOSTNAME=0.0.0.0 \
    NEXT_TELEMETRY_DISABLED=1 \
    NODE_ENV=production \
    PORT=3000
WORKDIR /app
COPY --from=builder /app/.next/standalone ./
COPY --from=builder /app/.next/static ./.next/static
{% if found.has_public %}
COPY --from=builder /app/public ./public
{% endif %}
# By number: Kubernetes' runAsNonRoot cannot tell who a name is.
USER 1001:1001
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["node", "-e", {{ probe | word }}]
CMD ["node", "server.js"]

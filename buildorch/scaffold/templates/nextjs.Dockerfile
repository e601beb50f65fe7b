# Written by `buildorch init`; yours to change.

FROM {{ base }} AS deps
WORKDIR /app
{% if found.manager == "npm" %}
ENV NPM_CONFIG_UPDATE_NOTIFIER=false
COPY package.json package-lock.json ./
RUN --mount=type=cache,id=npm,target=/root/.npm npm ci --no-audit --no-fund
{% elif found.manager == "pnpm" %}
RUN --mount=type=cache,id=npm,target=/root/.npm npm install --global --no-audit --no-fund pnpm@{{ found.manager_version }}
COPY package.json pnpm-lock.yaml ./
RUN --mount=type=cache,id=pnpm,target=/root/.local/share/pnpm/store \
    pnpm install --frozen-lockfile --config.package-import-method=copy
{% else %}
COPY package.json yarn.lock ./
RUN --mount=type=cache,id=npm,target=/root/.npm \
    --mount=type=cache,id=yarn,target=/usr/local/share/.cache/yarn \
    npx --yes yarn@1 install --frozen-lockfile --non-interactive
{% endif %}

FROM {{ base }} AS builder
WORKDIR /app
ENV NEXT_TELEMETRY_DISABLED=1 \
    NPM_CONFIG_UPDATE_NOTIFIER=false
COPY . .
COPY --from=deps /app/node_modules ./node_modules
RUN --mount=type=cache,id={{ name }}-next,target=/app/.next/cache \
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

# Written by `buildorch init`; yours to change.

FROM {{ base }} AS deps
WORKDIR /app
{% if found.manager != "pip" %}
# It reads the lock, and pip installs what that names, by its hashes.
RUN --mount=type=cache,id=pip,target=/root/.cache/pip \
    python -m venv /opt/tool && /opt/tool/bin/pip install {{ packages }}
COPY pyproject.toml {{ found.lock }} ./
RUN {{ export }} -o /requirements.txt
{% else %}
COPY {{ found.lock }} ./
{% endif %}
# Without pip: what ships needs no installer. Byte code is kept by the source's hash, so that equal packages are equal files.
RUN --mount=type=cache,id=pip,target=/root/.cache/pip \
    python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install{{ " --require-hashes" if found.is_hashed }} --no-compile \
        --requirement {{ requirements }} \
    && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

FROM {{ base }} AS runtime
LABEL org.opencontainers.image.title={{ found.title | label }} \
      org.opencontainers.image.description={{ found.description | label }}
RUN useradd --uid 10001 --user-group --no-create-home --no-log-init --shell /usr/sbin/nologin appuser
ENV PATH="/opt/venv/bin:$PATH" \
    PYTHONDONTWRITEBYTECODE=1 \
{% if found.source %}
    PYTHONPATH="/app/{{ found.source }}" \
{% endif %}
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY --from=deps /opt/venv /opt/venv
COPY . .
# By number: Kubernetes' runAsNonRoot cannot tell who a name is.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", {{ probe | word }}]
CMD ["uvicorn", {{ found.application | word }}, {{ '"--factory", ' if found.is_factory }}"--host", "0.0.0.0", "--port", "8000"]

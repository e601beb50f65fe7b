"""`secrets`: no build argument, variable, layer or history holds a secret.

In: a `Subject`. Out: an error for what is one by its form or was given as a build secret, a warning for what only bears
the name of one. No message holds a value. Touches nothing.

Names are judged as BuildKit's own check does (`frontend/dockerfile/linter`, SecretsUsedInArgOrEnv): whatever a variable
of such a name is for, its value stays in the image, or in the history that every pull gets.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.oci import ImageConfig
    from buildorch.policy.subject import Subject

_NAMES = "apikey|auth|credential|credentials|key|password|pword|passwd|secret|token"
_NAME = re.compile(rf"(?:_|^)(?:{_NAMES})(?:_|$)", re.IGNORECASE)
_HARMLESS = re.compile(r"(?:_|^)public(?:_|$)|_(?:file|path|id|url)$", re.IGNORECASE)
"""Names of what is public, or of where a secret is."""
_FORMS = {
    "an AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{82})"),
    "a GitLab token": re.compile(r"\bglpat-[0-9A-Za-z_-]{20}"),
    "a Slack token": re.compile(r"\bxox[abprs]-[0-9A-Za-z-]{10,}"),
    "an npm token": re.compile(r"\bnpm_[0-9A-Za-z]{36}\b"),
    "a PyPI token": re.compile(r"\bpypi-AgEIcHlwaS5vcmc[0-9A-Za-z_-]{50,}"),
    "a Stripe key": re.compile(r"\b[rs]k_live_[0-9A-Za-z]{24,}"),
    "a Google API key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "a JSON web token": re.compile(
        r"(?<![0-9A-Za-z_-])eyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{10,}"
    ),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a URL with a password": re.compile(
        r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,30}://[^/\s:@$]{1,256}:[^/\s:@${}]{1,256}@"
    ),
}
"""What a look at one place costs does not grow with what came before it: labels are foreign data of any length."""
HINT = "hand it over as a build secret (`secrets:` and RUN --mount=type=secret), or when the container starts"


def rule(subject: Subject) -> Iterator[Finding]:
    """Judge what was given to the build, what the Dockerfile sets, and what the image keeps."""
    yield from _given(subject)
    if subject.dockerfile is not None:
        yield from _declared(subject)
    for platform, image in subject.images.items():
        yield from _kept(platform, image.config)
    for found in subject.secrets:
        yield Finding(
            rule="secrets",
            severity="error",
            message=f"{found.platform}: the value of the build secret {found.secret!r} is in {found.where}",
            hint="withdraw it, and use it in the same RUN that mounts it without writing it to a file",
        )


def _given(subject: Subject) -> Iterator[Finding]:
    for name, value in subject.arguments.items():
        if form := form_of(value):
            yield _error(f"the build argument {name} is {form}: it stays in the image's history")
        elif value and is_name_of_one(name):
            yield _warning(f"the build argument {name} has the name of a secret, and stays in the image's history")


def _declared(subject: Subject) -> Iterator[Finding]:
    """What stands in the Dockerfile; a build argument that is only declared there is judged where it is given."""
    file = subject.dockerfile
    for one in file.declared if file else ():
        if form := form_of(one.value or ""):
            yield _error(f"line {one.line} of the Dockerfile sets {one.name} to {form}", line=one.line)
        elif one.value and one.name not in subject.spec.args and is_name_of_one(one.name):
            yield _warning(
                f"line {one.line} of the Dockerfile sets {one.name}, which has the name of a secret", line=one.line
            )


def _kept(platform: str, config: ImageConfig) -> Iterator[Finding]:
    for variable in config.environment:
        name, _, value = variable.partition("=")
        if form := form_of(value):
            yield _error(f"{platform}: the variable {name} in the image's config is {form}")
    for name, value in config.labels.items():
        if form := form_of(value):
            yield _error(f"{platform}: the label {name} is {form}")
    if form := form_of(" ".join(config.healthcheck or ())):
        yield _error(f"{platform}: the healthcheck in the image's config holds {form}")
    if form := next(filter(None, map(form_of, config.history)), ""):
        yield _error(f"{platform}: the image's history holds {form}")


def is_name_of_one(name: str) -> bool:
    """Whether a variable of this name would hold a secret."""
    return bool(_NAME.search(name)) and not _HARMLESS.search(name)


def form_of(value: str) -> str:
    """What kind of secret a text holds, by its form; empty where it is none that is known."""
    return next((kind for kind, form in _FORMS.items() if form.search(value)), "")


def _error(message: str, *, line: int | None = None) -> Finding:
    return Finding(rule="secrets", severity="error", message=message, hint=HINT, line=line)


def _warning(message: str, *, line: int | None = None) -> Finding:
    return Finding(rule="secrets", severity="warning", message=message, hint=HINT, line=line)

"""`user`: the image does not run as root.

In: a `Subject`. Out: an error where the config's user is root, by name, by number, by saying nothing, or by what the
image's /etc/passwd makes of its name, and where no such user is there; a warning where it is a name. Touches nothing.

Sources: `user.GetExecUser` in moby/sys, by which containers are started: a number, also one with a sign, is not looked
up as a name; Kubernetes' runAsNonRoot, which refuses to start a container whose user is a name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from buildorch.contents import Entry, LayerContents
    from buildorch.policy.subject import Subject

_NUMBER = re.compile(r"[+-]?[0-9]+\Z")
_HINT = "end the Dockerfile's last stage with a USER that is not root, such as USER 10001"


def rule(subject: Subject) -> Iterator[Finding]:
    """Judge each platform's configured user; which users an image has is known where its layers are."""
    if subject.spec.policy.user != "non-root":
        return
    for name, image in subject.images.items():
        yield from _judge(name, image.config.user, _users(image.layers))


def _judge(platform: str, configured: str, users: Mapping[str, int] | None) -> Iterator[Finding]:
    user = configured.split(":", 1)[0].strip()
    is_number = _NUMBER.match(user) is not None
    number = (0 if not user.strip("+-0") else None) if is_number else (users or {}).get(user)
    if user in {"", "root"} or number == 0:
        yield _error(f"{platform}: the image's config names {_said(configured, user)}")
    elif not is_number and users is not None and number is None:
        yield _error(f"{platform}: the image has no user {user!r} in its /etc/passwd, so it will not start")
    elif not is_number:
        yield Finding(
            rule="user",
            severity="warning",
            message=f"{platform}: the user {user!r} is a name, and Kubernetes' runAsNonRoot cannot tell who that is",
            hint=f"name it by its number: USER {number if number is not None else 10001}",
        )


def _said(configured: str, user: str) -> str:
    if not configured:
        return "no user, which means root"
    by = "" if user in {"", "root"} or _NUMBER.match(user) else " by its /etc/passwd"
    return f"the user {configured!r}, which is root{by}"


def _users(layers: Sequence[LayerContents] | None) -> Mapping[str, int] | None:
    """The users of the image: those of the last layer that has an /etc/passwd, if none above takes it away."""
    if layers is None:
        return None
    for layer in reversed(layers):
        if layer.users is not None:
            return layer.users
        if any(_takes_away(entry) for entry in layer.entries):
            break
    return {}


def _takes_away(entry: Entry) -> bool:
    """Whether a layer's entry leaves no /etc/passwd of those below it."""
    if entry.kind in {"whiteout", "opaque"}:
        return entry.path in ({"etc", "etc/passwd"} if entry.kind == "whiteout" else {"", "etc"})
    return entry.path == "etc/passwd"


def _error(message: str) -> Finding:
    return Finding(rule="user", severity="error", message=message, hint=_HINT)

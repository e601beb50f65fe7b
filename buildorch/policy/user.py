"""`user`: the image does not run as root.

In: a `Subject`. Out: an error where the config's user is root, by name, by number or by saying nothing.
Touches nothing. A name that /etc/passwd maps to 0 is not seen here: that needs the layers' files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.policy.subject import Subject


def rule(subject: Subject) -> Iterator[Finding]:
    """Judge each platform's configured user."""
    if subject.spec.policy.user != "non-root":
        return
    for name, platform in subject.platforms.items():
        user = platform.user.split(":", 1)[0].strip()
        if user == "root" or not user.strip("0"):
            said = f"the user {platform.user!r}, which is root" if platform.user else "no user, which means root"
            yield Finding(
                rule="user",
                severity="error",
                message=f"{name}: the image's config names {said}",
                hint="end the Dockerfile's last stage with a USER that is not root, such as USER 10001",
            )

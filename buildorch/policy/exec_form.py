"""`exec_form`: what the image starts is the program itself, and not a shell in front of it.

In: a `Subject`. Out: a finding where ENTRYPOINT or CMD starts a shell that stays. Touches nothing.

A shell as process 1 does not hand on the SIGTERM that stops a container: the program is killed after the grace period.
`exec` in the shell's text puts the program in its place. Source: Dockerfile reference, "Shell form ENTRYPOINT example".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.oci import ImageConfig
    from buildorch.policy.subject import Subject


def rule(subject: Subject) -> Iterator[Finding]:
    """Look at what each platform's config starts."""
    severity = subject.spec.policy.exec_form
    if severity is None:
        return
    for name, image in subject.images.items():
        for instruction, more in _staying(image.config):
            yield Finding(
                rule="exec_form",
                severity=severity,
                message=f"{name}: {instruction} starts a shell, which keeps signals from the program{more}",
                hint=f'write {instruction} ["program", "argument"], or put exec before the program in its text',
            )


def _staying(config: ImageConfig) -> Iterator[tuple[str, str]]:
    """The instruction whose shell stays, and what else that means."""
    from buildorch.dockerfile.shell import commands, script  # noqa: PLC0415 - only where the rule is on

    for instruction, words in (("ENTRYPOINT", config.entrypoint), ("CMD", config.command)):
        text = script(words)
        if text is None:
            continue
        if not any(command[0] == "exec" and len(command) > 1 for command in commands(text)):
            is_alone = instruction == "ENTRYPOINT" and words[-1] == text
            yield instruction, "; CMD, and what docker run is given, is ignored" if is_alone else ""
        return  # what stands behind a shell's text is not started

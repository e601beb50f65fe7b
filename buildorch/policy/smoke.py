"""`smoke`: the image becomes well when it is started without privileges, and nothing in it runs as root.

In: a `Subject`. Out: an error where a trial start ended, did not become well, or ran as root, with the last lines it
printed; a warning where it could not be tried. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.quantities import human_seconds
from buildorch.record import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildorch.policy.subject import Subject, Trial
    from buildorch.services.model import Smoke

LAST_LINES = 5


def rule(subject: Subject) -> Iterator[Finding]:
    """Judge each platform's trial start."""
    smoke = subject.spec.policy.smoke
    if smoke is None:
        return
    for name, trial in subject.trials.items():
        if trial.outcome == "not_tried":
            yield _warning(f"{name}: a start was not tried: {_last(trial) or 'no reason is known'}", _ELSEWHERE)
            continue
        if trial.outcome != "well":
            yield _error(f"{name}: started without privileges, {_said(trial, smoke)}", _printed(trial))
        yield from _judge_users(name, trial)


def _judge_users(name: str, trial: Trial) -> Iterator[Finding]:
    if 0 in trial.uids:
        others = ", ".join(str(uid) for uid in trial.uids if uid)
        beside = f", others as {others}" if others else ""
        yield _error(
            f"{name}: a process runs as root (uid 0){beside}",
            "end the Dockerfile's last stage with a USER that is not root, and start nothing as root in its entrypoint",
        )
    elif trial.outcome == "well" and not trial.uids:
        yield _warning(
            f"{name}: which users its processes run as is not known: the engine does not tell",
            "install ps (procps) on the engine's machine; with userns-remap the numbers there are others",
        )


def _said(trial: Trial, smoke: Smoke) -> str:
    passed = human_seconds(trial.seconds)
    match trial.outcome:
        case "ended" if trial.exit_code is None:
            return "it did not start"
        case "ended":
            return f"it ended with exit code {trial.exit_code} after {passed}, before it was well"
        case "no_port":
            return f"nothing took connections on port {smoke.port} within {passed}"
    return f"it was not well after {passed}: its HEALTHCHECK did not pass"


def _printed(trial: Trial) -> str:
    return f"its last lines: {_last(trial)}" if _last(trial) else "it printed nothing"


def _last(trial: Trial) -> str:
    lines = [line.strip() for line in trial.log if line.strip()]
    return " | ".join(lines[-LAST_LINES:])


_ELSEWHERE = "build where an engine of that platform is on this machine, or give a reason under policy.off.smoke"


def _error(message: str, hint: str) -> Finding:
    return Finding(rule="smoke", severity="error", message=message, hint=hint)


def _warning(message: str, hint: str) -> Finding:
    return Finding(rule="smoke", severity="warning", message=message, hint=hint)

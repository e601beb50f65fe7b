"""How CI systems are told that lines of a log belong together, and how a line tells them nothing.

In: names, titles, lines. Out: the same with a system's signs. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class Folds(Protocol):
    """How a CI system is told that lines belong together."""

    def begin(self, service: str, title: str, *, since: float) -> str:
        """What stands before them."""

    def end(self, service: str, *, now: float) -> str:
        """What stands behind them."""

    def harmless(self, line: str) -> str:
        """A line that tells the CI system nothing."""


class GitHubFolds:
    """Workflow commands (https://docs.github.com/actions/reference/workflow-commands-for-github-actions)."""

    def begin(self, service: str, title: str, *, since: float) -> str:
        """A group; they have no times."""
        del since
        return f"::group::{service}: {title}\n"

    def end(self, service: str, *, now: float) -> str:
        """The end of the group that was opened last."""
        del service, now
        return "::endgroup::\n"

    def harmless(self, line: str) -> str:
        """No command: `::` counts at a line's begin, where a service's name stands, the older `##[` anywhere.

        Source: actions/runner, `ActionCommand.TryParseV2` and `TryParse`.
        """
        line = line.replace("::", ": :", 1) if line.lstrip().startswith("::") else line
        return line.replace("##[", "## [")


class GitLabFolds:
    """Sections of a job's log (https://docs.gitlab.com/ci/jobs/job_logs/); times are seconds since 1970."""

    def begin(self, service: str, title: str, *, since: float) -> str:
        """A section that is folded at first."""
        return f"\x1b[0Ksection_start:{int(since)}:buildorch_{service}[collapsed=true]\r\x1b[0K{service}: {title}\n"

    def end(self, service: str, *, now: float) -> str:
        """The section's end; GitLab shows the time between."""
        return f"\x1b[0Ksection_end:{int(now)}:buildorch_{service}\r\x1b[0K\n"

    def harmless(self, line: str) -> str:
        """As it is: a section's signs are control characters, and none of those gets here."""
        return line


def folds(environ: Mapping[str, str]) -> Folds | None:
    """The folds of the CI system this runs on; None where it has none that are known."""
    if environ.get("GITHUB_ACTIONS") == "true":
        return GitHubFolds()
    return GitLabFolds() if environ.get("GITLAB_CI") == "true" else None

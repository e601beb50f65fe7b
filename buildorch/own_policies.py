"""Rules of one's own: functions that a services file names, asked like buildorch's rules.

In: names such as `package.module:function`, and the project's folder. Out: `OwnPolicy` values. Touches: Python's
modules: those of the project come behind installed ones. Runs what it imports, so it is used only where
`--allow-policies` was given.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from buildorch.errors import UsageError
from buildorch.record import Finding
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from buildorch.policy import Subject


@dataclass(frozen=True, slots=True)
class OwnPolicy:
    """One function that judges images."""

    name: str
    """As the services file names it."""
    function: Callable[[Subject], Iterable[object]]

    def findings(self, subject: Subject) -> tuple[Finding, ...]:
        """What it says; that it failed is a finding too, an error: nobody knows what it would have said."""
        try:
            found = tuple(self.function(subject))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is not buildorch's own, and may raise anything
            return (self._broken(f"it raised {type(error).__name__}: {error}"),)
        findings = tuple(one for one in found if isinstance(one, Finding) and _is_whole(one))
        strange = [one for one in found if one not in findings]
        if strange:
            return (*findings, self._broken(f"it gave {strange[0]!r} where a whole buildorch.Finding was expected"))
        return findings

    def _broken(self, fact: str) -> Finding:
        return Finding(rule=self.name, severity="error", message=fact, hint="mend it, or take it out of `policies`")


def _is_whole(finding: Finding) -> bool:
    """Whether a finding is one that a record can hold."""
    texts = (finding.rule, finding.message, finding.hint)
    return (
        finding.severity in {"error", "warning"}
        and all(isinstance(text, str) for text in texts)
        and isinstance(finding.line, int | None)
    )


def load(names: Sequence[str], root: Path) -> tuple[OwnPolicy, ...]:
    """The functions of these names.

    Raises:
        UsageError: one cannot be imported, is not there, or is no function.
    """
    # Behind all else: a module of the project's must not stand in for one that buildorch loads later.
    if names and str(root) not in sys.path:
        sys.path.append(str(root))
    return tuple(_load(name) for name in names)


def _load(name: str) -> OwnPolicy:
    module, _, function = name.partition(":")
    hint = f"`policies` names it: is {module.partition('.')[0]} in the services file's folder, or installed?"
    try:
        found = getattr(import_module(module), function, None)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module may raise anything while it is imported
        raise UsageError(f"the policy {name} cannot be imported: {type(error).__name__}: {error}", hint=hint) from None
    if not callable(found):
        raise UsageError(f"the policy {name} is no function", hint=f"define {function} in {module}")
    return OwnPolicy(name, found)

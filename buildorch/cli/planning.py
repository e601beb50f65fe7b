"""The commands `plan` and `explain`: what would be built, and which inputs say so.

In: a `BuildRequest`. Out: text or JSON on stdout, notes on stderr. Touches: through `preparing.preview`, what a build
looks at before it starts; builds nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from buildorch import preparing
from buildorch.cli.options import dumps
from buildorch.errors import EngineError
from buildorch.fingerprint import Build
from buildorch.report.text import explained_text, plan_text, printable

if TYPE_CHECKING:
    from buildorch.preparing import BuildRequest
    from buildorch.skipping import Decided


def show_plan(request: BuildRequest, *, output_format: str) -> None:
    """The plan, and for each service whether and why it would be built; without an engine, the plan alone."""
    try:
        preview = preparing.preview(request)
        plan, decided = preview.plan, preview.decided
    except EngineError as error:
        plan, decided = preparing.plan(request).plan, {}
        click.echo(f"note: what would be skipped is not known: {printable(str(error))}", err=True)
    if output_format == "text":
        click.echo(plan_text(plan, {name: _told(one) for name, one in decided.items()}))
        return
    document = plan.to_json()
    for name, one in decided.items():
        document["services"][name] |= _document(one)
    click.echo(dumps(document))


def show_changes(request: BuildRequest, *, output_format: str) -> None:
    """Every changed input of the services that were asked for, not of what they build on."""
    preview = preparing.preview(request)
    decided = {name: preview.decided[name] for name in request.services}
    if output_format == "json":
        services = {name: _document(one) for name, one in decided.items()}
        document = {"schema": "buildorch.explain/1", "services": services}
        click.echo(dumps(document))
        return
    for name, one in decided.items():
        click.echo(explained_text(name, _told(one), one.changes))


def _told(one: Decided) -> str:
    return f"build: {one.reason}" if isinstance(one.decision, Build) else f"skip: {one.reason}"


def _document(one: Decided) -> dict[str, Any]:
    changes = [{"kind": each.kind, "subject": each.subject, "detail": each.detail} for each in one.changes]
    action = "build" if isinstance(one.decision, Build) else "skip"
    return {"action": action, "reason": one.reason, "fingerprint": one.fingerprint.digest, "changes": changes}

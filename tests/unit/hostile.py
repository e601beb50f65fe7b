"""A run whose every name, message and line is hostile: markup, terminal commands, changes of direction."""

from __future__ import annotations

import dataclasses

from buildorch.ledger import Entry
from buildorch.record import (
    Budget,
    EngineFacts,
    Failure,
    FailureKind,
    Finding,
    GitFacts,
    Layer,
    Report,
    ServiceRecord,
    Step,
)
from buildorch.testing import make_digest, make_platform, make_record

AT = "2026-01-31T12:00:00.000Z"
EVIL = (
    "<script>alert(1)</script></style></title></pre></svg></details><img src=https://evil.example/x onerror=alert(2)>"
    "<!-- --> <![CDATA[ ]]> &lt;b&gt; &#60;i&#62; {{ 7 * 7 }} {% raw %} \"'` javascript:alert(3) ![a](https://evil.example) "
    "| **b** __c__ <https://evil.example> www.evil.example @everyone #1 :x: \x1b[2J\x1b]0;t\x07 \r\n\t # head\n- list\n"
    "\u202egpj.exe \u2066 \u2028 \x00 \x7f \x9b31m \ufffe \udcff \ud800"
)


def report() -> Report:
    """One run, everything in it hostile that a record can hold as text."""
    return Report(
        run_id=EVIL,
        project=EVIL,
        started_at=AT,
        duration_s=9.0,
        exit_code=1,
        jobs=2,
        git=GitFacts(sha=EVIL, branch=EVIL, dirty=True),
        engine=EngineFacts(version=EVIL, buildx=EVIL, store="containerd", endpoint=EVIL, cpus=2),
        services={f"built {EVIL}": _built(), f"failed {EVIL}": _failed()},
    )


def history() -> dict[str, list[Entry]]:
    """A record before that of each service."""
    earlier = dataclasses.replace(_built(), digest=make_digest("earlier"), duration_s=1.0)
    return {name: [Entry(1, EVIL + "1", "2026-01-30T12:00:00Z", name, earlier)] for name in report().services}


def _built() -> ServiceRecord:
    layer = Layer(digest=EVIL, diff_id=EVIL, compressed_bytes=40_000_000, unpacked_bytes=90_000_000, created_by=EVIL)
    platform = dataclasses.replace(make_platform(), layers=(layer,), unpacked_bytes=90_000_000, user=EVIL)
    return dataclasses.replace(
        make_record(digest=make_digest("image")),
        reason=EVIL,
        reference=EVIL,
        stand_ins=(EVIL,),
        platforms={EVIL: platform},
        timeline=(Step(name=EVIL, is_instruction=True, started_at=AT, duration_s=5.0, cached=False, failed=False),),
        started_at=AT,
        finished_at="2026-01-31T12:00:06Z",
        duration_s=6.0,
        warnings=(EVIL,),
        budget=Budget(max_bytes=200_000_000, target_bytes=None, of="unpacked"),
        findings=(Finding(rule=EVIL, severity="error", message=EVIL, hint=EVIL, line=3),),
        rules_off={EVIL: EVIL},
    )


def _failed() -> ServiceRecord:
    log = (EVIL, *EVIL.splitlines())
    words = {"message": EVIL, "hint": EVIL, "stage": EVIL, "step": EVIL, "dockerfile": EVIL, "line": 3, "log": log}
    return dataclasses.replace(
        make_record("failed", error=Failure(kind=FailureKind.STEP_FAILED, **words)), reason=EVIL, reference=EVIL
    )

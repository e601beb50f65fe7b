"""A service's record -> the image that a deploy is given, or what speaks against giving it.

In: records. Out: `PinnedImage`, `Refusal`. Touches nothing.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from buildorch.errors import EXIT_BUILD_FAILED, EXIT_POLICY, EXIT_UNREACHABLE, HandoffRefused, UsageError
from buildorch.oci import ImageReference, is_digest
from buildorch.quantities import human_seconds
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from buildorch.record import ServiceRecord

_NAME = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*\Z")
_PUSH = "build it again with --push"


@dataclass(frozen=True, slots=True)
class PinnedImage:
    """One service's image by its digest: the bytes that were built and measured, whatever a tag names later."""

    service: str
    repository: str
    """`[registry/]name`, without tag and digest."""
    tag: str
    """The first of its tags, for people; nothing is deployed by it."""
    digest: str
    """Of the index, or of the only manifest."""

    @property
    def image(self) -> str:
        """`repository@digest`, as every container runtime takes it."""
        return f"{self.repository}@{self.digest}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A service that may be handed over: the repository that its images go to, and its record."""

    service: str
    repository: str
    record: ServiceRecord | None = None
    """None where nothing was built of it yet."""
    started_at: str = ""
    """When the run that recorded it began; RFC 3339."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one service's image is not handed over."""

    service: str
    fact: str
    hint: str
    exit_code: int = EXIT_BUILD_FAILED


def pin(candidate: Candidate) -> PinnedImage:
    """The image of a candidate that nothing speaks against.

    Raises:
        UsageError: its record is none that buildorch writes: a name, reference or digest is malformed.
    """
    name, record = candidate.service, candidate.record
    if record is None or not _NAME.match(name) or not all(map(is_digest, _digests(record))):
        raise UsageError(f"the record of {name!r} holds what is no name or digest", hint="name one of buildorch's own")
    reference = ImageReference.parse(record.reference)
    return PinnedImage(name, reference.name, reference.tag, str(record.digest))


def _digests(record: ServiceRecord) -> Iterator[str]:
    """Those that stand in what is handed over, and in questions to a registry."""
    yield record.digest or ""
    for platform in record.platforms.values():
        yield from (platform.manifest_digest or "", platform.config_digest)


def objection(candidate: Candidate) -> Refusal | None:
    """What a record itself says against a deploy of its image; None where nothing does."""
    name, record = candidate.service, candidate.record
    if record is None:
        return Refusal(name, "nothing was built of it yet", _PUSH)
    if record.error or record.status not in {"built", "skipped"}:
        told = f": {record.error.message}" if record.error else ""
        code = record.error.exit_code if record.error else EXIT_BUILD_FAILED
        return Refusal(name, f"its last build is {record.status}{told}", "build it again, or pass --last-good", code)
    broken = dict.fromkeys(finding.rule for finding in record.findings if finding.severity == "error")
    if broken:
        fact = f"its last image is against the policy: {', '.join(broken)}"
        return Refusal(name, fact, "mend it and build it again, or pass --last-good", EXIT_POLICY)
    if record.withheld:
        return Refusal(name, f"its last image was not published: {record.withheld}", "build again, or pass --last-good")
    return _not_an_image(candidate, record)


def _not_an_image(candidate: Candidate, record: ServiceRecord) -> Refusal | None:
    name = candidate.service
    if record.digest is None:
        return Refusal(name, "its build leaves no image", "name the services that have one")
    if any(platform.manifest_digest is None for platform in record.platforms.values()):
        # What that store calls a digest is the config's: no registry knows it (docs/explanation/digests.md).
        return Refusal(name, "its image has no manifest yet: the graphdriver store keeps none", _PUSH)
    built = ImageReference.parse(record.reference).name
    if built != candidate.repository:
        fact = f"its last image is {built}, and the services file says {candidate.repository}"
        return Refusal(name, fact, "give the services file the variables and --set it was built with, or build again")
    return None


def too_old(candidate: Candidate, *, now: datetime, max_age_s: float) -> Refusal | None:
    """What a limit on age says against a record; the age is that of the run which built the image or proved it."""
    try:
        age = now - datetime.fromisoformat(candidate.started_at)
    except (TypeError, ValueError):
        raise UsageError(
            f"the record of {candidate.service} does not say when its run began: {candidate.started_at!r}",
            hint="leave --max-age out, or name a record that buildorch wrote",
        ) from None
    if age <= timedelta(seconds=max_age_s):
        return None
    fact = f"its record is {human_seconds(age.total_seconds())} old, {human_seconds(max_age_s)} at most are allowed"
    return Refusal(candidate.service, fact, "run the build again: what did not change is skipped")


def refused(refusals: Iterable[Refusal]) -> HandoffRefused:
    """The error for all that speaks against: first what an image lacks, then who did not answer, then the rules."""
    found = list(refusals)
    codes = {refusal.exit_code for refusal in found}
    order = (EXIT_BUILD_FAILED, EXIT_UNREACHABLE, EXIT_POLICY)
    return HandoffRefused(
        {refusal.service: refusal.fact for refusal in found},
        hint="; ".join(dict.fromkeys(refusal.hint for refusal in found)),
        exit_code=next((code for code in order if code in codes), EXIT_BUILD_FAILED),
    )

"""An image and its service's words -> what the rules say: gather what they look at, and ask them.

In: a `Solve` and the documents of its image. Out: `Verdict`. Touches: the Dockerfiles of the plan, the files and
variables that hold build secrets, and the engine, for a trial start.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
from dataclasses import field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from buildorch.bases.names import key as name_key
from buildorch.plan_dockerfiles import PlanDockerfiles, arguments_of
from buildorch.quantities import some_of
from buildorch.record import Budget, Finding, encodable
from buildorch.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from buildorch.dockerfile import Dockerfile
    from buildorch.engine import Engine
    from buildorch.inspection import Hunted, Question
    from buildorch.measure import ImageDocuments, ImageFacts
    from buildorch.oci import ImageConfig
    from buildorch.own_policies import OwnPolicy
    from buildorch.plan import Plan, Solve
    from buildorch.policy import FoundSecret, Subject, Trial
    from buildorch.record import ServiceRecord
    from buildorch.services import Secret, Service

RULES_VERSION = 2
"""Raised where a rule says something else of the same image: then all are judged again."""
SHORTEST_SECRET, SHORTEST_WORD = 8, 16
"""A shorter value, or one of letters alone, is found everywhere, and says nothing."""
LONGEST_SECRET = 64 * 1024
SHORTEST_LINE = 20
"""The longest line of a secret of several lines gives it away too, such as the token in an .npmrc."""
MOST_TRIALS = 2
"""How many images are started at once: what is tried on a busy machine is tried unfairly."""
_TRIALS = threading.Semaphore(MOST_TRIALS)
_USERS_ALONE = frozenset("0123456789:")


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What is the same for every image of a run."""

    engine: Engine
    """Where images are started on trial."""
    key: bytes
    """Of the hashes that stand for secrets."""
    locked: frozenset[str] = frozenset()
    """The base images of buildorch.lock."""
    dockerfiles: PlanDockerfiles = field(default_factory=PlanDockerfiles)
    """Those of the plan's services."""
    named: tuple[str, ...] = ()
    """The policies of one's own that the services file names."""
    own: Sequence[OwnPolicy] = ()
    """Those of them that are asked: all, or none where they are not allowed."""
    is_stopped: Callable[[], bool] = lambda: False
    """Asked during a trial start: it is given up where the run ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One service's words, before its image is looked at."""

    name: str
    """The service, or the image where it is no service's."""
    spec: Service
    dockerfile: Dockerfile | None = None
    secrets: tuple[Hunted, ...] = ()
    warnings: tuple[str, ...] = ()
    """BuildKit's own build checks."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Build arguments with the values that they have now."""
    trial: str = ""
    """The digest by which the engine can start the image; empty where it does not have it."""

    def question(self, config: ImageConfig) -> Question:
        """What the rules that are on ask of the layers of an image with this config."""
        from buildorch.inspection import Question  # noqa: PLC0415 - only where an image is read

        policy = self.spec.policy
        by_name = policy.user is not None and "user" not in policy.off and not _USERS_ALONE.issuperset(config.user)
        contents = policy.contents is not None and "contents" not in policy.off
        return Question(contents=by_name or contents, secrets=self.secrets)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say of one image."""

    budget: Budget | None
    findings: tuple[Finding, ...]
    off: Mapping[str, str]
    """Rule that was not asked -> why."""
    rules: str | None
    """The digest of the rules that were asked; None where there was no image."""


def means(
    plan: Plan,
    *,
    engine: Engine,
    key: bytes,
    locked: Iterable[str],
    own: Sequence[OwnPolicy],
    is_stopped: Callable[[], bool],
) -> Means:
    """What judging the images of a plan takes."""
    return Means(
        engine=engine,
        key=key,
        locked=frozenset(map(name_key, locked)),
        dockerfiles=PlanDockerfiles(plan.solves),
        named=plan.policies,
        own=own,
        is_stopped=is_stopped,
    )


def case_of(solve: Solve, means: Means, *, warnings: tuple[str, ...] = ()) -> Case:
    """A service's words."""
    spec = solve.spec
    return Case(
        name=solve.name,
        spec=spec,
        dockerfile=means.dockerfiles.of(solve),
        secrets=_secrets(solve, means),
        warnings=warnings,
        arguments=arguments_of(solve),
    )


def budget_of(spec: Service) -> Budget | None:
    """What an image's size is judged against."""
    size = spec.size
    return Budget(max_bytes=size.max, target_bytes=size.target, of=size.of) if size else None


def rules_of(spec: Service, secrets: Iterable[Hunted], means: Means) -> str:
    """The digest of what a service's image is judged by, whatever the day and whatever other services mount.

    Args:
        spec: the service's words.
        secrets: what is looked for in its layers.
        means: policies of one's own, and what is locked.
    """
    own, marks = [one.name for one in means.own], [one.mark for one in secrets]
    locked = sorted(means.locked) if spec.policy.pinned else []
    asked = [RULES_VERSION, spec.policy, spec.size, means.named, own, locked, marks]
    return f"sha256:{hashlib.sha256(json.dumps(asked, default=_plain, sort_keys=True).encode()).hexdigest()}"


def is_judged(solve: Solve, record: ServiceRecord, means: Means) -> bool:
    """Whether what a record says of its image is what the rules say today, but for what the day decides."""
    return not means.own and record.rules == rules_of(solve.spec, _secrets(solve, means), means)


def judged_today(spec: Service, record: ServiceRecord) -> ServiceRecord:
    """A record that was judged by the same rules, with what only the day decides: whether its bases have support."""
    if "end_of_life" in spec.policy.off:
        return record
    from buildorch.policy.end_of_life import past_support  # noqa: PLC0415 - loaded where images have bases

    others = (finding for finding in record.findings if finding.rule != "end_of_life")
    return dataclasses.replace(record, findings=(*others, *past_support(record.bases, datetime.now(UTC).date())))


def verdict(case: Case, documents: ImageDocuments, facts: ImageFacts, means: Means) -> Verdict:
    """What every rule that is on says of an image.

    Raises:
        EngineError: the image was to be started on trial, and the engine cannot be reached.
    """
    from buildorch.policy import errors_first, judge  # noqa: PLC0415 - a run that skips everything judges nothing

    off = dict(case.spec.policy.off)
    subject = _subject(case, documents, facts, means)
    own = (found for policy in means.own if policy.name not in off for found in policy.findings(subject))
    findings = errors_first(map(_encodable, (*judge(subject), *own, *_not_asked(means))))
    # A trial that a stop cut short is no verdict: the next run judges again.
    rules = None if subject.trials and means.is_stopped() else rules_of(case.spec, case.secrets, means)
    return Verdict(budget_of(case.spec), findings, off, rules)


def _encodable(finding: Finding) -> Finding:
    """The finding as a record can hold it."""
    return dataclasses.replace(finding, message=encodable(finding.message), hint=encodable(finding.hint))


def _not_asked(means: Means) -> Iterator[Finding]:
    if means.named and not means.own:
        yield Finding(
            rule="policies",
            severity="warning",
            message=f"the services file's own policies were not asked: {some_of(means.named)}",
            hint="they are programs: run it with --allow-policies where you trust them",
        )


def hunted(secrets: Iterable[Secret], root: Path, key: bytes) -> tuple[Hunted, ...]:
    """What gives build secrets away: those that are there now, and long enough to be told from chance."""
    found = ((secret.id, _value(secret, root)) for secret in secrets)
    return tuple(_hunted(name, value, key) for name, value in found if _is_telling(value))


def _secrets(solve: Solve, means: Means) -> tuple[Hunted, ...]:
    spec = solve.spec
    return () if "secrets" in spec.policy.off else hunted(spec.secrets, solve.root, means.key)


def _is_telling(value: bytes) -> bool:
    """Whether a value is told from chance where it is found: `password` stands in every image."""
    return len(value) >= SHORTEST_SECRET and (not value.isalpha() or len(value) >= SHORTEST_WORD)


def _hunted(name: str, value: bytes, key: bytes) -> Hunted:
    from buildorch.fingerprint import keyed  # noqa: PLC0415
    from buildorch.inspection import Hunted  # noqa: PLC0415 - only where an image is read

    longest = max(value.splitlines(), key=len).strip()
    texts = (value, longest) if len(longest) >= SHORTEST_LINE and longest != value else (value,)
    return Hunted(name, texts, keyed(key, value.decode("utf-8", "surrogateescape")))


def _value(secret: Secret, root: Path) -> bytes:
    """A secret's value, from where `docker buildx build --secret` takes it; empty where it is not there.

    Source: docker/buildx `util/buildflags/secrets.go`: without a file or a variable, the id names one of them.
    """
    if secret.file is None and (value := os.environ.get(secret.env or secret.id)) is not None:
        return value.encode("utf-8", "surrogateescape").strip()
    if secret.env is not None:
        return b""
    try:
        with (root / (secret.file or secret.id)).open("rb") as file:
            return file.read(LONGEST_SECRET).strip()
    except OSError:
        return b""  # the build said so: nothing can have leaked


def _subject(case: Case, documents: ImageDocuments, facts: ImageFacts, means: Means) -> Subject:
    from buildorch.policy import Image, Subject  # noqa: PLC0415 - where something is judged

    images = zip(facts.platforms, documents.platforms, strict=True)
    file, policy = case.dockerfile, case.spec.policy
    named = [image.name for image in file.images] if file else []
    return Subject(
        spec=case.spec,
        images={name: Image(facts.platforms[name], one.config, one.contents) for name, one in images},
        dockerfile=file,
        today=datetime.now(UTC).date(),
        pinned=frozenset(name for name in named if name_key(name) in means.locked),
        warnings=case.warnings,
        arguments=case.arguments,
        secrets=tuple(_leaks(case, documents, facts)),
        trials=_trials(case, facts, means) if policy.smoke and "smoke" not in policy.off else {},
        mounts_elsewhere=means.dockerfiles.mounts_elsewhere(case.name) if policy.cache_mounts else {},
    )


def _leaks(case: Case, documents: ImageDocuments, facts: ImageFacts) -> Iterator[FoundSecret]:
    """Where build secrets are that were looked for."""
    from buildorch.policy import FoundSecret  # noqa: PLC0415
    from buildorch.policy.instruction import shortened  # noqa: PLC0415

    for name, one in zip(facts.platforms, documents.platforms, strict=True):
        config = one.config
        for at, leaked in enumerate(one.leaked):
            where = f"the layer of {shortened(facts.platforms[name].layers[at].created_by)}"
            yield from (FoundSecret(secret, name, where) for secret in sorted(leaked))
        kept = {
            "the config": (
                *(*config.environment, *config.labels.values(), *config.command, *config.entrypoint),
                *(config.healthcheck or ()),
            ),
            "the history": config.history,
        }
        for where, texts in kept.items():
            data = "\n".join(texts).encode("utf-8", "surrogateescape")
            for one_hunted in case.secrets:
                if any(text in data for text in one_hunted.texts):
                    yield FoundSecret(one_hunted.secret, name, where)


def _trials(case: Case, facts: ImageFacts, means: Means) -> dict[str, Trial]:
    """How a start of each platform's image goes."""
    from buildorch.policy import Trial  # noqa: PLC0415

    smoke, platforms = case.spec.policy.smoke, facts.platforms
    if smoke is None:
        return {}
    if not case.trial:
        said = ("the engine does not have the image: it was pushed only",)
        return dict.fromkeys(platforms, Trial("not_tried", log=said))
    from buildorch.engine import try_start  # noqa: PLC0415 - only where a rule asks

    with _TRIALS:
        return {
            name: try_start(means.engine, case.trial, smoke, platform=name, is_stopped=means.is_stopped)
            for name in platforms
        }


def _plain(value: Any) -> Any:  # noqa: ANN401 - a model, or a recalled one with its attributes
    return dict(vars(value))

"""What the rules look at, made for their tests: one image of one platform that breaks nothing, but where a test says so.

In: what a test wants. Out: values. Touches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from buildorch.dockerfile import read
from buildorch.oci import ImageConfig, Platform
from buildorch.policy import Subject, judge
from buildorch.policy.subject import Image
from buildorch.record import Finding, PlatformRecord
from buildorch.services import Policy, Service
from buildorch.testing import make_platform

TODAY = date(2026, 11, 28)
TWO_STAGES = "FROM python:3.13-slim AS deps\nRUN x\nFROM python:3.13-slim\nCOPY --from=deps /a /b\n"


def make_image(facts: PlatformRecord | None = None, *, layers: Any = None, **config: Any) -> Image:
    """An image; `config` are fields of its `ImageConfig`."""
    facts = facts or make_platform()
    told: dict[str, Any] = {"user": facts.user, "labels": {}, "diff_ids": (), "created_by": (), **config}
    return Image(facts, ImageConfig(platform=Platform("linux", "amd64"), **told), layers)


def make_subject(
    spec: Service | Policy,
    image: Image | None = None,
    *,
    images: Mapping[str, Image] | None = None,
    dockerfile: str | None = TWO_STAGES,
    **more: Any,
) -> Subject:
    """A subject; `dockerfile` is its text, `more` are other fields."""
    return Subject(
        spec=spec if isinstance(spec, Service) else Service(policy=spec),
        images=images or {"linux/amd64": image or make_image()},
        dockerfile=None if dockerfile is None else read(dockerfile, arguments={}),
        **{"today": TODAY, **more},
    )


def judged(spec: Service | Policy, image: Image | None = None, **more: Any) -> tuple[Finding, ...]:
    """What is found against `make_subject`."""
    return judge(make_subject(spec, image, **more))

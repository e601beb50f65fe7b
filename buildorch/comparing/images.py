"""The images of variants: looked at, pulled, and removed.

In: names of images. Out: a `Row` with more in it; what could not be removed. Touches: the engine, the registry, and
through `buildorch.judging` what the rules look at.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from buildorch.comparing.isolation import prefix
from buildorch.differences import installed
from buildorch.engine.build_cache import remove_cache_mounts
from buildorch.errors import EngineError, RegistryError
from buildorch.finding_images import locate, read
from buildorch.inspection import Layers, Question, RegistrySource, read_image
from buildorch.judging import case_of, verdict
from buildorch.measure import measure
from buildorch.oci import ImageReference
from buildorch.registry import Repository
from buildorch.report.comparison import PULLS, Row
from buildorch.settle import unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from buildorch.engine import Engine
    from buildorch.judging import Case
    from buildorch.measure import ImageDocuments
    from buildorch.oci import ImageConfig
    from buildorch.plan import Solve
    from buildorch.settle import Images


def looked_at(solve: Solve, row: Row, reference: str, images: Images, *, warnings: tuple[str, ...] = ()) -> Row:
    """The row with what its image is, and what the service's rules say of it.

    Args:
        solve: the service with the variant's changes.
        row: what is known of the variant.
        reference: the image's name in the engine.
        images: the engine, and what judging takes.
        warnings: BuildKit's own of the build.
    """
    case = case_of(solve, images.means, warnings=warnings)
    try:
        found = locate(reference, images)
        documents = read(found, images, partial(_everything, case))
        facts = measure(documents)
        said = verdict(dataclasses.replace(case, trial=found.digest), documents, facts, images.means)
    except EngineError as error:
        return dataclasses.replace(row, error=unmeasured(error))
    platform, image = next(iter(facts.platforms.items()))
    return dataclasses.replace(
        row,
        platform=platform,
        image=image,
        stand_ins=facts.stand_ins,
        packages=_packages(documents),
        findings=said.findings,
    )


def _everything(case: Case, config: ImageConfig) -> Question:
    """What is asked of layers: what the rules ask, and which packages there are."""
    return Question(contents=True, secrets=case.question(config).secrets)


def _packages(documents: ImageDocuments) -> dict[str, int]:
    """Kind -> how many packages; npm may have one in several places."""
    layers = documents.platforms[0].contents or ()
    return dict(Counter[str](kind for kind, _, _ in {(one.kind, one.name, one.version) for one in installed(layers)}))


def pulled(row: Row, reference: str, *, is_stopped: Callable[[], bool] = lambda: False) -> Row:
    """The row with the time that a pull takes; the engine has all of the image already, so it is not asked to."""
    times: list[float] = []
    try:
        source = RegistrySource(reference)
        digest = source.resolve(ImageReference.parse(reference).tag)
        while len(times) < PULLS and not is_stopped():
            begun = time.perf_counter()
            read_image(source, digest, Layers({}))
            times.append(time.perf_counter() - begun)
    except EngineError as error:
        return dataclasses.replace(row, pull_note=f"it cannot be pulled: {error}")
    if not times:
        return dataclasses.replace(row, pull_note="the comparison was stopped")
    return dataclasses.replace(row, pull_s=round(min(times), 3))


def unpush(reference: str) -> Iterator[str]:
    """Take an image out of its registry; what cannot be, and why."""
    image = ImageReference.parse(reference)
    repository = Repository.of(image)
    try:
        repository.delete_manifest(repository.digest(image.tag, verify=True))
    except RegistryError as error:
        if not error.missing:
            yield f"{reference}: {error}"


def untag(references: Iterable[str], engine: Engine) -> Iterator[str]:
    """Take images out of the engine, where they are in it; what cannot be, and why."""
    for reference in references:
        try:
            [there] = engine.inspect([reference])
            if there:
                engine.untag(reference)
        except EngineError as error:
            yield f"{reference}: {error}"


def forget(word: str, engine: Engine) -> Iterator[str]:
    """Remove the cache mounts of one comparison; what cannot be, and why."""
    try:
        remove_cache_mounts(engine, prefix(word))
    except EngineError as error:
        yield f"cache mounts named {prefix(word)}*: {error}"

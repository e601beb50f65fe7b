"""A check as SARIF 2.1.0, for GitHub code scanning and other viewers of findings.

In: a `Checked`. Out: JSON in ASCII. Touches nothing.

A rule that is off is no result, as GitHub does not look at suppressions: it is a note of the tool's
configuration. An image that could not be judged is an error of the tool's execution. No category (`automationDetails`)
is set: that is for the upload to choose, and what stands here could not be overridden there.

Sources: OASIS, SARIF 2.1.0, whose sections are named below; GitHub, "SARIF support for code scanning".
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from buildorch import __version__
from buildorch.errors import UsageError
from buildorch.oci import ImageReference
from buildorch.record import encodable
from buildorch.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from buildorch.record import Finding
    from buildorch.report.findings import Checked, CheckedImage

RULE_TEXTS = {
    "size": "The image stays within its size budget.",
    "user": "The image does not run as root.",
    "stages": "The Dockerfile builds in at least so many stages, and the image does not hold all of them.",
    "bases": "Every image that a stage starts or copies from is on the list.",
    "pinned": "Every base image has a digest.",
    "end_of_life": "No base image is past its support.",
    "cache_mounts": "Package managers run with a cache mount, and those of apt and dpkg are locked.",
    "contents": "No layer holds compilers, package caches, .git, .env, private keys or tests.",
    "secrets": "No build argument, layer or config holds a secret.",
    "healthcheck": "The image has a HEALTHCHECK.",
    "exec_form": "ENTRYPOINT and CMD do not start a shell, which would keep signals from the program.",
    "labels": "The image has the labels that are asked for.",
    "build_checks": "BuildKit's own build checks warn of nothing.",
    "smoke": "The image starts without privileges and becomes well.",
}
"""What each of buildorch's own rules asks for. A rule that is not here is the project's own."""
_HOW_OFF = "A service can turn it off, with the reason, under policy.off in the services file."
_QUANTITY = re.compile(r"(?<!\S)\(?(?:\d[\d.,]*+(?:%|ms|s|m\d\ds|h\d\dm)?|[kMGT]?B)[).,;:]*+(?!\S)")
"""A word of a message that is a number, a size, its unit or a duration."""
_DIGEST = re.compile(r"sha256:[0-9a-f]+")


def checked_sarif(checked: Checked) -> str:
    """One run (section 3.14) with a result for each finding."""
    named = (name for image in checked.images for name in (*(found.rule for found in image.findings), *image.off))
    rules = sorted(set(named))
    run = {
        "tool": {"driver": {"name": "buildorch", "version": __version__, "rules": [_rule(name) for name in rules]}},
        "invocations": [_invocation(checked, rules)],
        "results": list(_results(checked, rules)),
    }
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2)


def _rule(name: str) -> dict[str, Any]:
    """Section 3.49; GitHub wants all three texts."""
    known = RULE_TEXTS.get(name)
    text = known or _message(f"{name}, a rule of the project's own.")
    descriptions = {"shortDescription": {"text": text}, "fullDescription": {"text": text}}
    return {"id": printable(name), **descriptions, "help": {"text": f"{text} {_HOW_OFF}" if known else text}}


def _invocation(checked: Checked, rules: Sequence[str]) -> dict[str, Any]:
    """Section 3.20."""
    return {
        "executionSuccessful": not any(image.error for image in checked.images),
        "exitCode": checked.exit_code,
        "endTimeUtc": checked.checked_at,
        "toolExecutionNotifications": [_not_judged(image) for image in checked.images if image.error],
        "toolConfigurationNotifications": [note for image in checked.images for note in _off(image, rules)],
    }


def _not_judged(image: CheckedImage) -> dict[str, Any]:
    """Section 3.58."""
    return {
        "descriptor": {"id": "not-judged"},
        "level": "error",
        "message": {"text": _told(image, image.error, image.error_hint)},
        "locations": [_location(image)],
    }


def _off(image: CheckedImage, rules: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Section 3.58."""
    for rule, reason in image.off.items():
        yield {
            "descriptor": {"id": "rule-off"},
            "associatedRule": {"id": printable(rule), "index": rules.index(rule)},
            "level": "note",
            "message": {"text": _told(image, f"{rule} is off: {reason}")},
            "locations": [_location(image)],
        }


def _results(checked: Checked, rules: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Section 3.27."""
    seen: Counter[str] = Counter()
    for image in checked.images:
        for found in image.findings:
            line = found.line if image.dockerfile else None
            seen[identity := _identity(checked.project, image, found)] += 1
            yield {
                "ruleId": printable(found.rule),
                "ruleIndex": rules.index(found.rule),
                "level": found.severity,
                "message": {"text": _told(image, found.message, found.hint)},
                "locations": [_location(image, line)],
                "partialFingerprints": _fingerprints(f"{identity}:{seen[identity]}", in_line=bool(line)),
            }


def _fingerprints(identity: str, *, in_line: bool) -> dict[str, str]:
    """What makes two runs' results the same (section 3.27.17).

    GitHub looks at `primaryLocationLineHash` alone. Where a result has a line, its upload makes that hash of the line's
    text and warns of any other (codeql-action, `fingerprints.ts`); where it has none, nobody would make it.
    """
    own = {"buildorchFinding/v1": identity}
    return own if in_line else {**own, "primaryLocationLineHash": identity}


def _identity(project: str, image: CheckedImage, finding: Finding) -> str:
    """The rule, the image without its tag, and the message without what may be another number in the next build.

    An image that grows, a line that moves and a warning that becomes an error are what they were; findings that differ
    in nothing else are counted by the caller.
    """
    message = _QUANTITY.sub("#", _DIGEST.sub("sha256:#", finding.message))
    parts = (project, image.service or _repository(image), finding.rule, message)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _location(image: CheckedImage, line: int | None = None) -> dict[str, Any]:
    """Section 3.28. GitHub takes no file in which a result has no physical location: the image's name has to do."""
    if image.dockerfile:
        physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(image.dockerfile), "uriBaseId": "%SRCROOT%"}}
    else:
        physical = {"artifactLocation": {"uri": _uri(_repository(image))}}
    if line:
        physical["region"] = {"startLine": line}
    judged: dict[str, Any] = {"fullyQualifiedName": printable(image.reference), "kind": "image"}
    if image.digest:
        judged["properties"] = {"digest": image.digest}
    return {"physicalLocation": physical, "logicalLocations": [judged]}


def _repository(image: CheckedImage) -> str:
    try:
        return ImageReference.parse(image.reference).name
    except UsageError:
        return image.reference or image.name


def _uri(path: str) -> str:
    """A relative reference (RFC 3986, section 4.2); of a name that is no UTF-8 the odd bytes are shown."""
    return quote(encodable(path))


def _told(image: CheckedImage, message: str, hint: str = "") -> str:
    text = _message(f"{image.name}: {message}")
    return f"{text}\nhint: {_message(hint)}" if hint else text


def _message(text: str) -> str:
    """A plain text message in which nothing is a placeholder or a link (sections 3.11.5 and 3.11.6)."""
    return printable(text).replace("{", "{{").replace("}", "}}").replace("](", "] (")

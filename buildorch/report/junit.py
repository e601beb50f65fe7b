"""A check as JUnit XML, for the test reports of Jenkins and GitLab.

In: a `Checked`. Out: XML 1.0 in ASCII. Touches nothing.

A suite is an image and a case a rule: one that found something, or one that is off. Which others were asked is not
known here, so an image that keeps all has one case, `policy`. All that a rule found is one case: GitLab leaves out the
second case of a name, and Jenkins the second failure of a case.

Sources: Jenkins xUnit plugin, `junit-10.xsd`; GitLab, "Unit test reports".
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from buildorch.report.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from buildorch.record import Finding
    from buildorch.report.findings import Checked, CheckedImage


def checked_junit(checked: Checked) -> str:
    """The report: an error is a failure, a warning passes and is printed, a rule that is off is skipped."""
    named = f"buildorch check {checked.project}"
    return document(named, [suite(checked, image, list(_cases(image)) or [case("policy")]) for image in checked.images])


def document(name: str, suites: Iterable[Element]) -> str:
    """The whole text; its counts are those of its suites."""
    root = Element("testsuites", {"name": printable(name)})
    root.extend(suites)
    for total in ("tests", "failures", "errors"):
        root.set(total, str(sum(int(suite.get(total, "0")) for suite in root)))
    indent(root)
    written: bytes = tostring(root, encoding="us-ascii", xml_declaration=True)
    return written.decode()


def suite(
    checked: Checked, image: CheckedImage, cases: Sequence[Element], properties: Mapping[str, object] | None = None
) -> Element:
    """One image with its cases; properties come after its reference and digest, those without a value are left out."""
    made = Element("testsuite", {"name": printable(image.name), "timestamp": checked.checked_at[:19]})
    listed = SubElement(made, "properties")
    for name, value in {"reference": image.reference, "digest": image.digest, **(properties or {})}.items():
        if value not in {None, ""}:
            SubElement(listed, "property", {"name": printable(name), "value": printable(str(value))})
    for one in cases:
        one.set("classname", printable(f"{checked.project}.{image.name}"))
    made.extend(cases)
    made.set("tests", str(len(cases)))
    for count, ending in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        made.set(count, str(sum(one.find(ending) is not None for one in cases)))
    return made


def rule_cases(image: CheckedImage) -> Iterator[Element]:
    """A case for each rule that found something, and for each that is off."""
    for rule in dict.fromkeys(finding.rule for finding in image.findings):
        yield _found(image, rule)
    for rule, reason in image.off.items():
        made = case(rule)
        outcome(made, "skipped", reason)
        yield made


def _cases(image: CheckedImage) -> Iterator[Element]:
    if image.error:
        made = case("policy")
        outcome(made, "error", image.error, kind="not judged", text=_with_hint(image.error, image.error_hint))
        yield made
    yield from rule_cases(image)


def _found(image: CheckedImage, rule: str) -> Element:
    made, of_rule = case(rule), [finding for finding in image.findings if finding.rule == rule]
    errors = [finding for finding in of_rule if finding.severity == "error"]
    if errors:
        outcome(made, "failure", _summary(errors), kind=rule, text=_told(image, errors))
    if warnings := [finding for finding in of_rule if finding.severity == "warning"]:
        SubElement(made, "system-out").text = _told(image, warnings)
    return made


def case(name: str) -> Element:
    """A case that passes."""
    return Element("testcase", {"name": printable(name)})


def outcome(case: Element, ending: str, message: str, *, kind: str = "", text: str = "") -> None:
    """Let a case end as `failure`, `error` or `skipped`."""
    made = SubElement(case, ending, {"message": printable(message)})
    if kind:
        made.set("type", printable(kind))
    made.text = text or None


def _summary(findings: Sequence[Finding]) -> str:
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return findings[0].message + more


def _told(image: CheckedImage, findings: Iterable[Finding]) -> str:
    return "\n".join(_with_hint(_place(image, found) + found.message, found.hint) for found in findings)


def _place(image: CheckedImage, finding: Finding) -> str:
    return f"{image.dockerfile}:{finding.line}: " if image.dockerfile and finding.line else ""


def _with_hint(message: str, hint: str) -> str:
    """What XML 1.0 cannot hold (section 2.2), such as control characters, is shown."""
    return printable(message) + (f"\nhint: {printable(hint)}" if hint else "")

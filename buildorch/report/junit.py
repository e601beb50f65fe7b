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
    from collections.abc import Iterable, Iterator, Sequence

    from buildorch.record import Finding
    from buildorch.report.findings import Checked, CheckedImage


def checked_junit(checked: Checked) -> str:
    """The report: an error is a failure, a warning passes and is printed, a rule that is off is skipped."""
    root = Element("testsuites", {"name": printable(f"buildorch check {checked.project}")})
    for image in checked.images:
        root.append(_suite(checked, image))
    for total in ("tests", "failures", "errors"):
        root.set(total, str(sum(int(suite.get(total, "0")) for suite in root)))
    indent(root)
    written: bytes = tostring(root, encoding="us-ascii", xml_declaration=True)
    return written.decode()


def _suite(checked: Checked, image: CheckedImage) -> Element:
    suite = Element("testsuite", {"name": printable(image.name), "timestamp": checked.checked_at[:19]})
    properties = SubElement(suite, "properties")
    for name, value in (("reference", image.reference), ("digest", image.digest)):
        if value:
            SubElement(properties, "property", {"name": name, "value": printable(value)})
    cases = list(_cases(image)) or [_case("policy")]
    for case in cases:
        case.set("classname", printable(f"{checked.project}.{image.name}"))
    suite.extend(cases)
    suite.set("tests", str(len(cases)))
    for count, outcome in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(count, str(sum(case.find(outcome) is not None for case in cases)))
    return suite


def _cases(image: CheckedImage) -> Iterator[Element]:
    if image.error:
        case = _case("policy")
        _outcome(case, "error", image.error, kind="not judged", text=_with_hint(image.error, image.error_hint))
        yield case
    for rule in dict.fromkeys(finding.rule for finding in image.findings):
        yield _found(image, rule)
    for rule, reason in image.off.items():
        case = _case(rule)
        _outcome(case, "skipped", reason)
        yield case


def _found(image: CheckedImage, rule: str) -> Element:
    case, of_rule = _case(rule), [finding for finding in image.findings if finding.rule == rule]
    errors = [finding for finding in of_rule if finding.severity == "error"]
    if errors:
        _outcome(case, "failure", _summary(errors), kind=rule, text=_told(image, errors))
    if warnings := [finding for finding in of_rule if finding.severity == "warning"]:
        SubElement(case, "system-out").text = _told(image, warnings)
    return case


def _case(name: str) -> Element:
    return Element("testcase", {"name": printable(name)})


def _outcome(case: Element, outcome: str, message: str, *, kind: str = "", text: str = "") -> None:
    made = SubElement(case, outcome, {"message": printable(message)})
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

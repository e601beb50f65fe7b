"""The records of a run -> its exit code.

In: service records. Out: a number. Touches nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildorch.errors import EXIT_BUILD_FAILED, EXIT_OK, EXIT_POLICY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from buildorch.record import ServiceRecord


def exit_code(records: Iterable[ServiceRecord], *, interrupted: int | None = None) -> int:
    """What the run exits with.

    A signal's code comes first; then 1 for a build that failed for its own sake, 4 where only something outside could
    not be reached, 3 for a violated policy, 1 where images were built and not published, 0.
    """
    if interrupted is not None:
        return interrupted
    found = list(records)
    codes = {record.error.exit_code for record in found if record.error and record.status == "failed"}
    if EXIT_BUILD_FAILED in codes:
        return EXIT_BUILD_FAILED
    if codes:
        return max(codes)
    if any(record.status in {"blocked", "cancelled"} for record in found):
        return EXIT_BUILD_FAILED
    if any(finding.severity == "error" for record in found for finding in record.findings):
        return EXIT_POLICY
    return EXIT_BUILD_FAILED if any(record.withheld for record in found) else EXIT_OK

"""What the browser's tests stand on: a real Chromium, started once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from devtools import Page, chromium, find


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A tab, closed before other tests begin; where there is no Chromium the test is skipped, and in CI it fails."""
    executable = find()
    if executable is None:
        reason = "there is no Chromium here: scripts/chromium installs it on Debian, as root"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with chromium(executable) as opened:
        yield opened

"""A page in a real headless Chromium, through its DevTools protocol: what it asked for, said, holds and looks like."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "chromium-headless-shell", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    *("--disable-extensions", "--disable-default-apps", "--no-proxy-server", "--remote-debugging-port=0"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
START_S = 60.0
ANSWER_S = 60.0


def find() -> str | None:
    """Where a Chromium is; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab; every event that it told is kept."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to one command; what is told meanwhile is kept."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": params, **session}))
        while True:
            message = self._receive()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._connection.recv(timeout=ANSWER_S))
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, url: str) -> None:
        """Go there, and wait until all of it is loaded."""
        self.events.clear()
        self.ask("Page.navigate", url=url)
        while not self.told("Page.loadEventFired"):
            self._receive()

    def told(self, method: str) -> list[dict[str, Any]]:
        """What came of one kind of event."""
        return [event["params"] for event in self.events if event["method"] == method]

    def said(self) -> list[str]:
        """Every message of the console, the browser's own among them, and every exception."""
        logged = [entry["entry"]["text"] for entry in self.told("Log.entryAdded")]
        called = [str(call["args"]) for call in self.told("Runtime.consoleAPICalled")]
        thrown = [str(one["exceptionDetails"]["text"]) for one in self.told("Runtime.exceptionThrown")]
        return [*logged, *called, *thrown]

    def requested(self) -> list[str]:
        """Every address that was asked for."""
        return [event["request"]["url"] for event in self.told("Network.requestWillBeSent")]

    def value(self, expression: str) -> Any:
        """What JavaScript gives for an expression; the page itself may run none."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def look(self, *, dark: bool = False, width: int = 1200, height: int = 900, media: str = "screen") -> None:
        """How the page is seen from here on."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def screenshot(self, *, whole: bool = False) -> bytes:
        """A PNG of what is seen, or of the whole page."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"])

    def printed(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode(self.ask("Page.printToPDF", printBackground=True)["data"])


@contextmanager
def chromium(executable: str) -> Iterator[Page]:
    """A browser of its own, with an empty profile, and gone at the end."""
    with tempfile.TemporaryDirectory(prefix="buildorch-chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [executable, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            # Pings would come from a thread, which draws their bytes from the `random` that other tests draw from.
            address = _address(process, Path(profile))
            with connect(address, max_size=None, proxy=None, ping_interval=None) as connection:
                yield Page(connection)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], profile: Path) -> str:
    told = profile / "DevToolsActivePort"
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        lines = told.read_text().splitlines() if told.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    raise AssertionError(f"Chromium did not start (exit code {process.poll()})")

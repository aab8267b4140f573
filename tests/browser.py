"""A headless Chromium without a network, driven through its own DevTools protocol."""

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import websocket

from whoknows.report.pdf import BROWSERS, NO_NETWORK

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-default-apps --mute-audio --hide-scrollbars "
    "--remote-debugging-port=0 --remote-allow-origins=* --allow-file-access-from-files"
).split()
SERVER_ERROR = -32000  # JSON-RPC's code that Chromium gives to commands whose page navigates or is closed meanwhile
PATIENCE = 120  # seconds until something that should have happened counts as missing


def find() -> str:
    """The browser on the PATH; without one the test is skipped, or fails in CI."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not path:
        missing = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        missing("no Chromium or Chrome on the PATH, so the browser tests were not run")
    return path


@contextmanager
def open_book(index: Path, network: str = NO_NETWORK):
    """A browser that shows a book, from its first page's file.

    Gives a `Browser`, whose `requests` and `errors` collect what no page of the book may cause; `loaded` has the bytes
    of all that the page on show has fetched, as they are once unpacked.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [find(), *FLAGS, network, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield Browser(Path(profile), Path(index))
        finally:
            process.kill()
            process.wait()


class Left(AssertionError):
    """The page went away, or another took its place, before a command's result came."""


class Browser:
    """One tab."""

    def __init__(self, profile: Path, index: Path):
        self.folder, self.index = index.parent, index.name
        self.requests, self.errors, self.loaded = [], [], 0
        self._ids = itertools.count(1)
        self._socket = websocket.create_connection(_tab(profile), timeout=PATIENCE)
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters) -> dict:
        """One command of the DevTools protocol, and its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (message := json.loads(self._socket.recv())).get("id") != number:
            self._note(message)
        if "error" in message:
            kind = Left if message["error"]["code"] == SERVER_ERROR else AssertionError
            raise kind(f"{method}: {message['error']}")
        return message["result"]

    def visit(self, page: str = "", width: int = 1280, dark: bool = False) -> None:
        """Shows a page of the book, at a width in pixels, in the light or the dark theme, with all its charts drawn."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.read("window.left = true")  # or the page that is left would pass for the one that comes
        path, mark, query = (page or self.index).partition("?")
        self.loaded = 0
        self.call("Page.navigate", url=(self.folder / path).resolve().as_uri() + mark + query)
        self.wait("!window.left && document.readyState === 'complete'")
        self.wait("[...document.querySelectorAll('[id^=altair-viz]')].every(chart => chart.querySelector('svg.marks'))")

    def read(self, script: str):
        """The value of a JavaScript expression on the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression is true, on this page or on the one that it leads to."""
        end = time.monotonic() + PATIENCE
        while not self._holds(condition):
            assert time.monotonic() < end, f"never true on {self.read('location.href')}: {condition}\n{self.errors}"
            time.sleep(0.05)

    def _holds(self, condition: str) -> bool:
        try:
            return bool(self.read(condition))
        except Left:
            return False

    def texts(self, chart: int = 0) -> list[str]:
        """All that is written in a chart, in its drawing order."""
        return self.read(
            f"[...document.querySelectorAll('svg.marks')[{chart}].querySelectorAll('text')].map(t => t.textContent)"
        )

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return self.read("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG file."""
        size = self.read("[innerWidth, document.documentElement.scrollHeight]")
        whole = {"width": size[0], "height": min(size[1], 8000), "deviceScaleFactor": 1, "mobile": size[0] < 600}
        self.call("Emulation.setDeviceMetricsOverride", **whole)
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _note(self, message: dict) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                url = params["request"]["url"]
                if not url.startswith(("file:", "data:", "blob:", "about:")):
                    self.requests.append(url)
            case "Network.dataReceived":
                self.loaded += params["dataLength"]
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(params["exceptionDetails"])[:1000])
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                self.errors.append(json.dumps(params["args"])[:1000])
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")


def _tab(profile: Path) -> str:
    """The address of the first tab, once the browser is up."""
    import urllib.request

    end, port_file = time.monotonic() + PATIENCE, profile / "DevToolsActivePort"
    while True:
        try:
            port = port_file.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as reply:
                tabs = [tab for tab in json.load(reply) if tab["type"] == "page"]
            return tabs[0]["webSocketDebuggerUrl"]
        except (OSError, IndexError):
            assert time.monotonic() < end, "the browser did not start"
            time.sleep(0.05)

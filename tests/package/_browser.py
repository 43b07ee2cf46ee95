"""A browser for tests: Chromium, driven by the W3C WebDriver protocol over HTTP."""

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
KEYS = {"left": "\ue012", "up": "\ue013", "right": "\ue014", "down": "\ue015", "space": " "}
_ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update"
).split()


class Browser:
    """One window."""

    def __init__(self, server, profile, width, height, dark):
        arguments = [*_ARGUMENTS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
        if dark:
            arguments.append("--blink-settings=preferredColorScheme=0")
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": CHROMIUM, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        self._server = server
        body = {"capabilities": {"alwaysMatch": wanted}}
        self._session = f"/session/{self._call('POST', '/session', body)['sessionId']}"

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._server + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None

    def close(self):
        self._call("DELETE", self._session)

    def open(self, url):
        self._call("POST", f"{self._session}/url", {"url": url})

    def run(self, script):
        """What a script returns."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": []})

    def wait(self, condition, seconds=30):
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({condition})"):
            assert time.monotonic() < end, f"not so after {seconds} s: {condition}"
            time.sleep(0.1)

    def errors(self):
        """What the console was told since the last call: warnings and errors."""
        lines = self._call("POST", f"{self._session}/se/log", {"type": "browser"})
        return [line["message"] for line in lines if line["level"] in ("WARNING", "SEVERE")]

    def press(self, *keys):
        """Press keys by their names in `KEYS`, whatever has the focus."""
        kinds = ("keyDown", "keyUp")
        actions = [{"type": kind, "value": KEYS[key]} for key in keys for kind in kinds]
        body = {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}
        self._call("POST", f"{self._session}/actions", body)

    def drag(self, start, end):
        """Press the pointer at one place of the window and release it at another."""
        moves = [{"type": "pointerMove", "x": x, "y": y, "duration": 50} for x, y in (start, end)]
        down, up = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))
        pointer = {"type": "pointer", "id": "mouse", "actions": [moves[0], down, moves[1], up]}
        self._call("POST", f"{self._session}/actions", {"actions": [pointer]})

    def device(self, width, height):
        """Look as on a screen of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": size}
        self._call("POST", f"{self._session}/goog/cdp/execute", command)

    def screenshot(self, path):
        png = self._call("GET", f"{self._session}/screenshot")
        path.write_bytes(base64.b64decode(png))


@contextmanager
def browser(folder, *, width=1360, height=1240, dark=False):
    """A browser with a new profile in `folder`."""
    log = folder / "chromedriver.log"
    with log.open("wb") as out:
        driver = subprocess.Popen([DRIVER, "--port=0"], stdout=out, stderr=out)
        try:
            port = _port(log)
            window = Browser(f"http://127.0.0.1:{port}", folder / "profile", width, height, dark)
            try:
                yield window
            finally:
                window.close()
        finally:
            driver.terminate()
            driver.wait()


def _port(log):
    for _ in range(300):
        words = log.read_text(encoding="utf-8").split()
        if "port" in words and "successfully" in words:
            return int(words[len(words) - 1 - words[::-1].index("port") + 1].rstrip("."))
        time.sleep(0.1)
    raise AssertionError(log.read_text(encoding="utf-8"))

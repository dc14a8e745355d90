"""Firefox without a window, driven over WebDriver BiDi (W3C), because Debian has no geckodriver for selenium."""
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

websocket = pytest.importorskip("websocket")
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
NEEDED = pytest.mark.skipif(not FIREFOX, reason="needs Firefox (Debian: apt-get install firefox-esr)")
START = 120                               # seconds; observed 3


class Firefox:
    """A process of Firefox with one page.  `events` are [method, parameters] of what the browser reported."""

    def __init__(self, profile: Path):
        """`profile` is an empty folder."""
        self.process = subprocess.Popen(
            [FIREFOX, "--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.count, self.events = 0, []
        try:
            port = json.loads(self._written(profile / "WebDriverBiDiServer.json"))["ws_port"]
            # Firefox refuses a connection with an Origin header.
            self.socket = websocket.create_connection(f"ws://127.0.0.1:{port}/session", timeout=START,
                                                      suppress_origin=True)
            self.send("session.new", capabilities={})
            self.send("session.subscribe", events=["log.entryAdded", "network.beforeRequestSent"])
            self.page = self.send("browsingContext.getTree")["contexts"][0]["context"]
        except BaseException:
            self.close()
            raise

    def _written(self, path):
        """The text of a file that Firefox writes when it is ready."""
        for _ in range(10 * START):
            if path.exists() and (text := path.read_text()):
                return text
            assert self.process.poll() is None, f"Firefox ended with code {self.process.returncode}"
            time.sleep(0.1)
        raise TimeoutError(f"Firefox did not write {path}")

    def send(self, method, **params):
        """Send a command, and return its result.  RuntimeError if Firefox reports an error."""
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv())
            if answer["type"] == "event":
                self.events.append((answer["method"], answer["params"]))
            elif answer["id"] == self.count:
                if answer["type"] == "error":
                    raise RuntimeError(f"{method}: {answer['error']}: {answer['message']}")
                return answer["result"]

    def open(self, address):
        """Open an address, and wait until it is loaded."""
        self.send("browsingContext.navigate", context=self.page, url=address, wait="complete")

    def evaluate(self, expression):
        """The value of a JavaScript expression, which may be a promise, as JSON can hold it."""
        text = f"(async () => JSON.stringify((await ({expression})) ?? null))()"
        found = self.send("script.evaluate", expression=text, target={"context": self.page}, awaitPromise=True)
        if found["type"] == "exception":
            raise RuntimeError(found["exceptionDetails"]["text"])
        return json.loads(found["result"]["value"])

    def until(self, expression, seconds=60):
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < end, f"not true after {seconds} s: {expression}"
            time.sleep(0.05)

    def node(self, selector):
        """The first element that a CSS selector finds, as commands name it."""
        found = self.send("browsingContext.locateNodes", context=self.page, locator={"type": "css", "value": selector})
        return {"sharedId": found["nodes"][0]["sharedId"]}

    def put_in(self, selector, path):
        """Choose a file in an <input>."""
        self.send("input.setFiles", context=self.page, element=self.node(selector), files=[str(path)])

    def click(self, selector):
        """Click the middle of an element."""
        node = {"type": "element", "element": self.node(selector)}
        self.evaluate(f"document.querySelector({json.dumps(selector)}).scrollIntoView("
                      "{ block: 'center', behavior: 'instant' })")
        actions = [{"type": "pointerMove", "x": 0, "y": 0, "origin": node},
                   {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self.send("input.performActions", context=self.page,
                  actions=[{"type": "pointer", "id": "mouse", "actions": actions}])

    def close(self):
        """End the process."""
        if hasattr(self, "socket"):
            self.socket.close()
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

"""Runs to report on, constructed by hand, and a browser to look at the page with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits
from uncollapse.findings import Finding
from uncollapse.protocols import Estimate
from uncollapse_report.records import Curve, LatentMap, Pictures, ReportRun, Views

PATIENCE = 20.0
"""Seconds that a step in the browser may take before the test gives up."""


def _digits() -> tuple[np.ndarray, np.ndarray]:
    digits = load_digits()
    return (digits.images[..., None] / 16 * 255).astype(np.uint8), digits.target


def _curves(rng: np.random.Generator, rate: float, distortion: float) -> tuple[Curve, ...]:
    found = []
    for split, epochs in (("train", np.linspace(0.1, 30, 300)), ("validation", np.arange(1.0, 31))):
        decay = np.exp(-epochs / 4)
        noise = 0.3 * rng.standard_normal(len(epochs)) * (split == "train")
        rates = rate + 3 * decay
        distortions = distortion + 15 * decay + noise
        values = {"loss": rates + distortions, "rate": rates, "distortion": distortions}
        found += [Curve(name, split, epochs, v) for name, v in values.items()]
    return tuple(found)


def _image_run(name: str, *, collapsed: bool, seed: int = 0, means: bool = True) -> ReportRun:
    rng = np.random.default_rng(seed)
    images, labels = _digits()
    originals = images[:8]
    drawn = rng.permutation(len(images))
    samples = images[drawn[:8]] if collapsed else np.clip(originals + rng.normal(0, 25, originals.shape), 0, 255)
    rows = images[drawn[40:43]] if collapsed else images[drawn[20:41]]
    traversals = np.repeat(rows[:, None], 7, 1) if collapsed else rows.reshape(3, 7, 8, 8, 1)
    kl = rng.uniform(0, 0.002, 16) if collapsed else np.sort(rng.gamma(1.0, 1.0, 16))
    centres = 0.0 if collapsed else rng.normal(0, 1.3, (10, 2))[labels[:600]]
    points = centres + rng.normal(0, 0.02 if collapsed else 0.25, (600, 2))
    numbers = {
        "rate": Estimate(float(kl.sum()), "nats", 0.002 if collapsed else 0.11, 1000),
        "distortion": Estimate(26.31 if collapsed else 14.872, "nats", 0.17, 1000),
        "nll": Estimate(26.33 if collapsed else 24.918, "nats", 0.18, 1000, note="500 importance samples"),
        "mutual_information": Estimate(
            0.001 if collapsed else 6.12,
            "nats",
            0.001 if collapsed else 0.02,
            1000,
            note="at most log 1000 = 6.91 nats",
        ),
        "active_units": Estimate(0 if collapsed else 13, "units", None, 1000),
        "knn_accuracy": Estimate(0.104 if collapsed else 0.962, "accuracy", 0.006, 500),
        "kl_per_dimension": Estimate(float(kl.sum()), "nats", None, 1000, tuple(kl)),
    }
    if not collapsed:
        numbers["knn_accuracy_100"] = Estimate(0.871, "accuracy", 0.011, 500)
    return ReportRun(
        name=name,
        seed=seed,
        latent_size=16,
        evaluated_on="test, 1,000 examples",
        findings=(
            (Finding("collapsed", "z carries 0.00 nats of x, below the 1.15 that count as a code"),)
            if collapsed
            else (Finding("not collapsed", "z carries 6.12 nats of x; not examined: single units"),)
        ),
        numbers=numbers,
        curves=_curves(rng, 0.01 if collapsed else 9.0, 26.3 if collapsed else 14.9),
        views=Views(
            pictures=Pictures(
                originals=originals,
                samples=samples.astype(np.uint8),
                means=np.repeat(images[:500].mean(0, keepdims=True), 8, 0).astype(np.uint8) if means else None,
                prior=images[drawn[60:76]],
                traversals=traversals,
                traversed=tuple(np.argsort(-kl)[:3].tolist()),
                positions=np.arange(-3.0, 4.0),
                show_means=means,
            ),
            latent_map=LatentMap(points, labels[:600], ("PC 1 (40 %)", "PC 2 (23 %)"), 1.0, "Projected by PCA."),
            kl_per_dimension=kl,
        ),
        pipeline=f"name: {name}\nseed: {seed}\ndata:\n  type: digits\n",
        skipped={"mutual_information": "the posterior has no density"} if collapsed else {},
        environment={"python": "3.11", "packages": {"torch": "2.13.0"}},
    )


@pytest.fixture
def image_run() -> Callable[..., ReportRun]:
    """Make a run on digits: ``image_run(name, collapsed=...)``."""
    return _image_run


@pytest.fixture
def vector_run() -> ReportRun:
    """Return a run on data that nobody can look at, which was never evaluated."""
    why = "The data are arrays of 2 values, not images, so there is nothing to look at."
    points = np.random.default_rng(0).normal(size=(50, 2))
    return ReportRun(
        name="toy",
        seed=3,
        latent_size=1,
        views=Views(
            latent_map=LatentMap(points, None, ("z0", "no meaning"), 1.0, "One dimension."),
            omitted={"pictures": why, "kl": "The posterior is not a diagonal Gaussian."},
        ),
        pipeline="name: toy\n",
    )


# ------------------------------------------------------------------------------------------------------------- browser


_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


class Browser:
    """A page in headless Chromium, driven over the DevTools protocol.

    ``errors`` gathers what the page complains about, ``requests`` what it asks the network for.
    """

    def __init__(self, executable: str, profile: Path) -> None:
        import websocket

        flags = (
            "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        )
        flags += " --disable-component-update --disable-sync --remote-debugging-port=0"
        self.process = subprocess.Popen(
            [executable, *flags.split(), f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._last_id = 0
        self._session: str | None = None
        try:
            port, path = self._address(profile / "DevToolsActivePort")
            self._socket = websocket.create_connection(
                f"ws://127.0.0.1:{port}{path}", timeout=PATIENCE, suppress_origin=True, http_no_proxy=["127.0.0.1"]
            )
            target = self.command("Target.createTarget", url="about:blank")["targetId"]
            self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.command(f"{domain}.enable")
        except BaseException:
            self._stop()
            raise

    def _address(self, file: Path) -> tuple[str, str]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            lines = file.read_text().split() if file.exists() else []
            if len(lines) == 2:
                return lines[0], lines[1]
            if self.process.poll() is not None:
                raise RuntimeError(f"the browser ended at once with status {self.process.returncode}")
            time.sleep(0.02)
        raise RuntimeError(f"the browser did not open its DevTools within {PATIENCE:g} s")

    def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; events that arrive meanwhile are noted."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == self._last_id:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert", "warning"):
            self.errors.append(" ".join(str(a.get("value", a.get("description"))) for a in params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def open(self, page: Path, width: int, height: int, *, scheme: str = "light") -> None:
        """Show ``page`` in a window of this size and wait until its charts are drawn."""
        self.errors.clear()
        self.requests.clear()
        phone = width < 600
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        self.command("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.command("Page.navigate", url=page.resolve().as_uri())
        self.wait("document.readyState === 'complete' && document.documentElement.dataset.charts === 'drawn'")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        result = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not self.evaluate(condition):
            assert not self.errors, self.errors
            assert time.monotonic() < deadline, f"still not so after {PATIENCE:g} s: {condition}"
            time.sleep(0.05)

    def _stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        """End the browser that this object started."""
        self._socket.close()
        self._stop()


def _chromium() -> str | None:
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Start headless Chromium; skip where there is none, except on CI, where it has to be there."""
    executable = _chromium()
    if executable is None:
        why = f"none of {', '.join(_NAMES)} is on the PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    if os.environ.get("CI") != "true":
        pytest.importorskip("websocket", reason="the browser test needs the package websocket-client")
    running = Browser(executable, tmp_path_factory.mktemp("browser"))
    yield running
    running.close()

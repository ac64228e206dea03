"""Frames of the page while it shows a job of many requests live: the time from one to the next.

A fleet of one model that answers at once, a job of GETs, and the page at the job's table in Debian's
chromium without a window; the page itself writes down when each animation frame begins. To be read
beside the same page at rest: a machine that draws slowly without any updates says nothing about them.
"""

import argparse
import json
import statistics
import tempfile
import urllib.request
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from puppetmaster import ranges
from sandbox.gateway import Gateway
from sandbox.process import free_port

CHROMIUM = Path("/usr/bin/chromium")
REST_MS = 2000
#: Begins to write down frames and the messages of WebSockets; runs before anything else of the page.
WATCH = """
window.frames_ = [];
window.messages_ = 0;
const note = (at) => { window.frames_.push(at); requestAnimationFrame(note); };
requestAnimationFrame(note);
const Real = WebSocket;
window.WebSocket = class extends Real {
  constructor(...given) {
    super(...given);
    this.addEventListener("message", (event) => {
      window.messages_ += 1;
      window.updates_ = (window.updates_ ?? 0) + JSON.parse(event.data).collection.length;
    });
  }
};
"""


def post(url: str, body: Any) -> Any:
    """The answer to POST /jobs."""
    request = urllib.request.Request(f"{url}jobs", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def gaps_ms(frames: Sequence[float]) -> list[float]:
    """From one frame to the next."""
    return [after - before for before, after in pairwise(frames)]


def told(label: str, gaps: Sequence[float]) -> str:
    """A line about them."""
    ordered = sorted(gaps)
    p95 = ordered[int(len(ordered) * 0.95)]
    within = sum(gap <= 20.5 for gap in gaps) / len(gaps)
    return (
        f"{label:20} {len(gaps):5} frames: median {statistics.median(gaps):5.1f} ms, p95 {p95:5.1f} ms, "
        f"worst {ordered[-1]:5.1f} ms, {1000 * len(gaps) / sum(gaps):4.1f}/s, {within:.0%} within 20 ms"
    )


def measure(page: Page, url: str, count: int, tab: str) -> None:
    """Follow one job in one tab of the page, and print its lines."""
    destinations = ranges.expand(f"cg-[{1:05d}-{count:05d}]")
    item = {"method": "get", "resource": "/system/time", "__request": {"destination": destinations}}
    page.goto(url)
    page.wait_for_timeout(REST_MS)
    at_rest = page.evaluate("frames_")
    job = post(url, {"batch": [item]})
    page.goto(f"{url}#/jobs/{job['id']}")
    page.get_by_role("tab", name=tab).click()
    page.evaluate("frames_.length = 0; messages_ = 0; updates_ = 0;")
    page.locator(".job-head .badge", has_text="resolved").wait_for(timeout=300_000)
    frames, messages, updates = page.evaluate("[frames_, messages_, updates_]")
    print(told("at rest", gaps_ms(at_rest)))
    print(
        told(f"{count} live, {tab.lower()}", gaps_ms(frames)), f"({updates} updates in {messages} messages)"
    )


def main() -> None:
    """Measure; options choose how much."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="requests of the job (%(default)s)")
    options = parser.parse_args()
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="puppetmaster-bench-") as directory,
        sync_playwright() as playwright,
    ):
        gateway = Gateway(
            Path(directory),
            fleet=["--shape", "one-model", "--to", f"cg-[{1:05d}-{options.count:05d}]"],
            settings={"PUPPETMASTER_HTTP": f"127.0.0.1:{port}"},
        )
        with gateway:
            browser = playwright.chromium.launch(executable_path=CHROMIUM)
            for tab in ("Requests", "Gateways"):
                page = browser.new_page(viewport={"width": 1280, "height": 860})
                page.add_init_script(WATCH)
                measure(page, f"http://127.0.0.1:{port}/", options.count, tab)
                page.close()
            browser.close()


if __name__ == "__main__":
    main()

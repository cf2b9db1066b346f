"""Frame times of the web page as 5,000 results scroll by, in headless Chromium, and what a frame costs.

    python bench/page.py [frames]

A generated library on a server of this process is shown as 5,000 items. Of each step width and screen: percentiles of the time between
frames, and a frame's milliseconds of script, style and layout and its passes of style and layout, by Chromium's own counters.
"""

import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np
from _browser import CHROMIUM
from playwright.sync_api import CDPSession, Page, Route, sync_playwright

from embedrl.index.index import Index
from embedrl.index.ingest import ingest
from embedrl.log import result, table
from embedrl.server.run import listen, make_server, make_service
from embedrl.server.settings import Settings
from embedrl.testing import FakeEmbedder, FakeReasoner
from embedrl.world.write import make_world

NUM_ITEMS, PAGE_SIZE, WIDTHS, STEPS = 5_000, 48, (1280, 375), (20, 200)
SCROLL = """async ([step, frames]) => {
  const times = [];
  let last = await new Promise(requestAnimationFrame);
  for (let at = 0; at < frames; at += 1) {
    scrollTo({ top: scrollY + step, behavior: "instant" });
    const now = await new Promise(requestAnimationFrame);
    times.push(now - last);
    last = now;
  }
  return times;
}"""
TO_END = "scrollTo({ top: document.documentElement.scrollHeight, behavior: 'instant' })"
TIMES = ("width, step", "median ms", "95 %", "largest", "over 17 ms")
COUNTERS = {
    "script ms": ("ScriptDuration", 1000),
    "style ms": ("RecalcStyleDuration", 1000),
    "layout ms": ("LayoutDuration", 1000),
    "style passes": ("RecalcStyleCount", 1),
    "layouts": ("LayoutCount", 1),
}


def main(num_frames: int = 240) -> None:
    """Print one row for each width and step."""
    if CHROMIUM is None:
        result("left out: no Chromium or Chrome on the PATH to drive")
        return
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder, reasoner, embedder = Path(name), FakeReasoner(), FakeEmbedder()
        make_world(folder, num_pairs=12, seed=1)
        ingest(folder, Index.open(folder, embedder=embedder), reasoner, embedder)
        service = make_service(Settings(port=0), {"main": (folder, "fake", reasoner)}, embedder, "fake")
        socket = listen(service.settings)
        server = make_server(service)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        url = f"http://127.0.0.1:{socket.getsockname()[1]}"
        rows = []
        for width in WIDTHS:
            rows += measured(browser.new_page(viewport={"width": width, "height": 900}), url, width, num_frames)
        browser.close()
        server.should_exit = True
        thread.join()
    load = " ".join(f"{number:.1f}" for number in os.getloadavg())
    table(
        f"{NUM_ITEMS:,} items, {num_frames} frames each; times are milliseconds a frame; load of the machine {load}",
        (*TIMES, *COUNTERS),
        rows,
    )


def measured(page: Page, url: str, width: int, num_frames: int) -> list[tuple[str, ...]]:
    """Return a row for each step; all items are loaded before."""
    hits = page.request.get(f"{url}/api/items?limit={PAGE_SIZE}&modality=image").json()["items"]

    def answer(route: Route) -> None:
        offset = int(route.request.url.split("offset=")[1].split("&")[0])
        numbers = range(offset, min(offset + PAGE_SIZE, NUM_ITEMS))
        names = [f"{number}.png" for number in numbers]
        items = [{**hits[at % len(hits)], "key": f"{at:064x}", "path": name, "name": name} for at, name in zip(numbers, names, strict=True)]
        route.fulfill(json={"items": items, "total": NUM_ITEMS, "offset": offset, "more": offset + PAGE_SIZE < NUM_ITEMS})

    pictures = [page.request.get(f"{url}/api/items/{hit['key']}/thumbnail").body() for hit in hits]

    def picture(route: Route) -> None:
        number = int(route.request.url.split("/items/")[1].split("/")[0], 16)
        route.fulfill(body=pictures[number % len(pictures)], content_type="image/png")

    page.route("**/api/items?*", answer)
    page.route("**/thumbnail*", picture)
    page.goto(f"{url}/?modality=image")
    last = page.locator(f'.card[aria-posinset="{NUM_ITEMS}"]')
    while not last.count():
        page.evaluate(TO_END)
        page.wait_for_timeout(30)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    rows = []
    for step in STEPS:
        page.evaluate("scrollTo({ top: 400, behavior: 'instant' })")
        page.wait_for_timeout(1000)
        before = counters(session)
        times = np.array(page.evaluate(SCROLL, [step, num_frames]))
        after = counters(session)
        costs = [f"{unit * (after[name] - before[name]) / num_frames:.2f}" for name, unit in COUNTERS.values()]
        late = f"{100 * np.mean(times > 17):.0f} %"
        rows.append((f"{width}, {step}", *(f"{time:.1f}" for time in np.percentile(times, (50, 95, 100))), late, *costs))
    page.close()
    return rows


def counters(session: CDPSession) -> dict[str, float]:
    """Return Chromium's own counters of a page."""
    metrics: list[dict[str, Any]] = session.send("Performance.getMetrics")["metrics"]
    return {metric["name"]: metric["value"] for metric in metrics}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

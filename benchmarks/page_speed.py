"""How long a board's page takes in a real browser: to open, to sort, to filter.

    python -m benchmarks.page_speed --rows 1000 --template REPORT

Medians over the repetitions, in milliseconds, each from the click to the frame that shows the result.
"""

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.generated import as_text, drawn
from cwbench.leaderboard.build import build
from cwbench.leaderboard.layout import PAGE, Place
from cwbench.report.report import read_report

FRAME = "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
CLICK = """async (selector) => {
  const button = document.querySelector(selector), began = performance.now();
  button.click();
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - began;
}"""
TYPE = """async (text) => {
  const field = document.querySelector("input[name=q]"), began = performance.now();
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - began;
}"""


def clicks(page: Page, repeat: int) -> list[float]:
    """Return the milliseconds of sorting by columns in turn."""
    keys = ["worst", "gap", "subject", "robust", "clean"]
    return [page.evaluate(CLICK, f"th[data-sort={keys[turn % len(keys)]}] button") for turn in range(repeat)]


def main() -> None:
    """Write a board, open its page and print a line for each action."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--template", type=Path, required=True, help="a report of a standard suite")
    args = parser.parse_args()
    template = read_report(args.template)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        place = Place(Path(folder))
        for number in range(args.rows):
            report, _ = drawn(template, number)
            path = place.path(report)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(as_text(report), encoding="utf-8")
        build(place)
        html = place.root / PAGE
        print(f"{args.rows:,} rows, {html.stat().st_size / 2**20:.1f} MiB")
        executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        print(f"chromium {browser.version}")
        page = browser.new_page()
        page.goto(html.as_uri())
        opening = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        print(f"open: {opening:.0f} ms")
        page.evaluate(FRAME)
        sorting = clicks(page, args.repeat)
        print(f"sort: {statistics.median(sorting):.0f} ms, at most {max(sorting):.0f} ms of {args.repeat}")
        typing = [page.evaluate(TYPE, text) for text in ["00", "009", "", "0"] * (args.repeat // 4)]
        print(f"search: {statistics.median(typing):.0f} ms, at most {max(typing):.0f} ms of {len(typing)}")
        browser.close()


if __name__ == "__main__":
    main()

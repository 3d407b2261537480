#!/usr/bin/env python3
"""Pictures of a real report in headless Chromium: docs/images/report-*.png.

    python scripts/docs/screenshots.py [--report runs/docs/runs/demo/report.html]
    python scripts/docs/screenshots.py --report runs/demo/run/report.html --head report  # the README, after make demo

Needs chromium, chromium-driver and selenium.  Pictures are reduced to 256 colours, and refused above 300 KB.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
PARTS = {"report-head": None, "report-plots": "speed", "report-latency": "latency"}
"""The picture's name, and the section of the report it begins with (None: the top)."""
WIDTH, HEIGHT, TALL, MOST_BYTES = 1280, 900, 1400, 300_000
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


def browser(profile: str, height: int) -> Any:
    """A headless Chromium.  Raises SystemExit, with what to install, where there is none."""
    for name in ("chromium", "chromedriver"):
        if shutil.which(name) is None:
            raise SystemExit(f"there is no {name}: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={WIDTH},{height}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(60)
    return driver


def shot(driver: Any, section: str | None) -> bytes:
    """The window's picture with a section at its top, as a PNG of 256 colours."""
    from PIL import Image

    where = "window.scrollTo(0, 0)" if section is None else f"document.getElementById('{section}').scrollIntoView()"
    # A plot is drawn when it comes into view, in a frame or two.
    driver.execute_async_script(f"{where}; setTimeout(arguments[0], 1500);")
    picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    out = io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--report", type=Path, default=ROOT / "runs" / "docs" / "runs" / "demo" / "report.html")
    parser.add_argument("--head", metavar="NAME", help="only the report's head, as docs/images/NAME.png")
    said = parser.parse_args()
    report = said.report.resolve()
    parts = PARTS if said.head is None else {said.head: None}
    if not report.is_file():
        raise SystemExit(f"there is no {report}: run scripts/docs/transcripts.py first, or give --report")
    with tempfile.TemporaryDirectory() as profile:
        driver = browser(profile, HEIGHT if said.head is None else TALL)
        try:
            driver.get(report.as_uri())
            for name, section in parts.items():
                data = shot(driver, section)
                if len(data) > MOST_BYTES:
                    raise SystemExit(f"{name}.png would have {len(data):,} bytes, more than {MOST_BYTES:,}")
                (IMAGES / f"{name}.png").write_bytes(data)
                print(f"{name}.png: {len(data):,} bytes")
        finally:
            driver.quit()


if __name__ == "__main__":
    main()

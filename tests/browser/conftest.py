"""A real headless Chromium; without one these tests are skipped, or fail where the build promised it."""

import os
import shutil
from collections.abc import Iterator

import pytest

REQUIRED = os.environ.get("ASSAY_TEST_REQUIRE_DEBIAN") == "1"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def missing(reason: str) -> None:
    """Skip, saying why; with ASSAY_TEST_REQUIRE_DEBIAN=1 that is a failure."""
    if REQUIRED:
        pytest.fail(f"{reason}, and ASSAY_TEST_REQUIRE_DEBIAN=1 wants it: apt-get install chromium chromium-driver")
    pytest.skip(f"{reason} (apt-get install chromium chromium-driver; pip install selenium)")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    for name in ("chromium", "chromedriver"):
        if shutil.which(name) is None:
            missing(f"there is no {name} here")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.options import Options
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        missing("selenium is not installed")
    options = Options()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()

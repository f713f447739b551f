"""What system tests share: a real browser."""

import tempfile
from collections.abc import Callable, Iterator

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService


@pytest.fixture
def browser(chromium: Chrome) -> Chrome:
    """Headless Chromium that has been nowhere yet: cookies would be every port's."""
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    return chromium


@pytest.fixture(scope="module")
def chromium(needs: Callable[[str], str]) -> Iterator[Chrome]:
    """Headless Chromium with a fresh profile."""
    options = ChromeOptions()
    options.binary_location = needs("chromium")
    with tempfile.TemporaryDirectory() as profile, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_OFFLINE", "true")
        for flag in (
            "headless",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            "window-size=1280,800",
            f"user-data-dir={profile}",
        ):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = Chrome(options=options, service=ChromeService(needs("chromedriver")))
        yield driver
        driver.quit()

"""Chromium, driven by its own protocol where WebDriver has no word for it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

BINARY, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = {"phone": (390, 844), "desk": (1280, 900)}
_PATIENCE = 20  # seconds for anything that a page is expected to do
_QUIET = ("SEVERE", "WARNING")


@dataclass(frozen=True, slots=True)
class Look:
    """A way to look at a page."""

    device: str = "desk"
    dark: bool = False
    scripts: bool = True


class Chromium:
    """A browser with one page open."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, url: str, look: Look = Look()) -> None:
        """Open a page; the lines and requests of earlier pages are forgotten."""
        width, height = WIDTHS[look.device]
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1}
        self._do("Emulation.setDeviceMetricsOverride", mobile=look.device == "phone", **metrics)
        scheme = "dark" if look.dark else "light"
        scheme_feature = {"name": "prefers-color-scheme", "value": scheme}
        self._do("Emulation.setEmulatedMedia", features=[scheme_feature])
        self._do("Emulation.setScriptExecutionDisabled", value=not look.scripts)
        self.lines()
        self.origins()
        self._driver.get(url)

    def _do(self, command: str, **parameters: object) -> Any:  # noqa: ANN401 - JSON
        return self._driver.execute_cdp_cmd(command, parameters)

    def run(self, script: str) -> Any:  # noqa: ANN401 - JSON
        """Return the value of a script."""
        return self._driver.execute_script(script)

    @property
    def title(self) -> str:
        """The title of the page."""
        return self._driver.title

    @property
    def address(self) -> str:
        """The address of the page."""
        return self._driver.current_url

    @property
    def text(self) -> str:
        """The page's text, as people see it."""
        return self._driver.find_element(By.TAG_NAME, "body").text

    def find(self, selector: str) -> WebElement:
        """Return the first element of a CSS selector."""
        return self._driver.find_element(By.CSS_SELECTOR, selector)

    def click(self, words: str) -> None:
        """Click a link or a button with these words."""
        said = json.dumps(words, ensure_ascii=False)
        path = f"//*[self::a or self::button or self::summary][normalize-space()={said}]"
        self._driver.find_element(By.XPATH, path).click()

    def until(self, text: str) -> None:
        """Wait until the page has a text."""
        WebDriverWait(self._driver, _PATIENCE, 0.05).until(lambda _: text in self.text, text)

    def overflows(self) -> bool:
        """Whether the page is wider than its window."""
        element = "document.documentElement"
        return bool(self.run(f"return {element}.scrollWidth > {element}.clientWidth"))

    def hindrances(self) -> list[str]:
        """Return what axe finds, with the elements."""
        self._do("Runtime.evaluate", expression=AXE.read_text("utf-8"))
        found = self._driver.execute_async_script("axe.run().then(arguments[0])")
        return [
            f"{each['id']}: {each['help']}: {[node['html'][:200] for node in each['nodes']]}"
            for each in found["violations"]
        ]

    def lines(self) -> list[str]:
        """Return the lines of the console since the last call, warnings and worse."""
        return [each["message"] for each in self._log("browser") if each["level"] in _QUIET]

    def _log(self, name: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self._driver.get_log(name)  # type: ignore[no-untyped-call]
        return found

    def origins(self) -> set[str]:
        """Return the origins that were asked for something since the last call."""
        messages = [json.loads(each["message"])["message"] for each in self._log("performance")]
        urls = [
            each["params"]["request"]["url"]
            for each in messages
            if each["method"] == "Network.requestWillBeSent"
        ]
        parts = [urlsplit(url) for url in urls if not url.startswith("data:")]
        return {f"{each.scheme}://{each.hostname}:{each.port}" for each in parts}

    def picture(self, file: Path, most: int = 10_000) -> None:
        """Take a picture of the page, at `most` so many pixels high."""
        width = self.run("return document.documentElement.clientWidth")
        height = min(most, self.run("return document.documentElement.scrollHeight"))
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = self._do("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def chromium() -> Iterator[Chromium]:
    """Start a browser; names under .test are this machine's."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(BINARY)
    for flag in (
        "--headless=new",
        "--no-sandbox",  # as root
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP *.test 127.0.0.1",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))
    driver.set_page_load_timeout(_PATIENCE)
    driver.set_script_timeout(_PATIENCE)
    try:
        yield Chromium(driver)
    finally:
        driver.quit()

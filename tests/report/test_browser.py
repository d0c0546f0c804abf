"""The page in a real browser: no errors, no overflow on a phone, dark, and downloads that hold data."""

import csv
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from gsnn.report import page

pytestmark = pytest.mark.browser
KINDS = ("images", "photo-z", "table", "unfinished")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        webdriver = None
    if not (chromium and chromedriver and webdriver):
        reason = "the browser tests need Chromium, chromedriver and selenium (apt install chromium chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    folder = tmp_path_factory.mktemp("profile")
    flags = (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-background-networking",
        "no-first-run",
        "disable-component-update",
        "disable-sync",
    )
    for flag in (*flags, f"user-data-dir={folder}", "window-size=1280,900"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def addresses(runs):
    return {kind: page.write(run).as_uri() for kind, run in runs.items()}


def screen(browser, width, scheme="light"):
    shape = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_opens_cleanly(browser, addresses, kind, width):
    screen(browser, width)
    browser.get(addresses[kind])
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    broken = "return [...document.images].filter(i => i.complete && !i.naturalWidth).length"
    assert browser.execute_script(broken) == 0
    assert browser.execute_script("return document.querySelectorAll('main section h2').length") >= 9
    fetched = "return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length"
    assert browser.execute_script(fetched) == 0


@pytest.mark.parametrize("baselines", [3, 5])
def test_the_numbers_beside_those_of_many_baselines_need_no_sideways_scrolling(browser, runs, tmp_path, baselines):
    """The last column is often the one that the first sentence compares with."""
    run = tmp_path / "run"
    shutil.copytree(runs["table"], run)
    answer = json.loads((run / "answer.json").read_text())
    one = next(iter(answer["baselines"].values()))
    answer["baselines"] = {f"baseline-{k}": one for k in range(baselines)}
    (run / "answer.json").write_text(json.dumps(answer))
    screen(browser, 1200)
    browser.get(page.write(run).as_uri())
    over = "const e = document.querySelector('#comparison .scroll'); return e.scrollWidth - e.clientWidth"
    assert browser.execute_script(over) <= 0


def luminance(colour):
    rgb = np.array([float(v) for v in colour[colour.index("(") + 1 : -1].split(",")[:3]]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("token", ["ink", "soft", "blue", "orange", "green", "purple", "amber"])
def test_contrast(browser, addresses, scheme, token):
    """Text and lines keep 4.5:1 against the page (WCAG 2.2, 1.4.3) in both schemes, and the scheme is obeyed."""
    screen(browser, 1280, scheme)
    browser.get(addresses["table"])
    paint = """const e = document.createElement('i'); document.body.append(e); e.style.color = arguments[0];
        const c = getComputedStyle(e).color; e.remove(); return c"""
    text, paper = (luminance(browser.execute_script(paint, f"var(--{name})")) for name in (token, "paper"))
    assert (paper < 0.1) == (scheme == "dark")
    assert (max(text, paper) + 0.05) / (min(text, paper) + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("kind", "figure"),
    [("images", "loss"), ("images", "sky"), ("images", "worst"), ("photo-z", "truth"), ("table", "explain-saliency")],
)
def test_downloads(browser, addresses, tmp_path, kind, figure):
    screen(browser, 1280, "dark")
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.get(addresses[kind])
    for what in ("png", "csv"):
        browser.execute_script(f"document.querySelector('[data-name=\"{figure}\"] [data-save={what}]').click()")
        for _ in range(100):
            if (tmp_path / f"{figure}.{what}").exists():
                break
            time.sleep(0.05)
    assert browser.get_log("browser") == []
    from PIL import Image

    with Image.open(tmp_path / f"{figure}.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert min(pixels.shape[:2]) > 200
    assert (pixels[:3, :3] == 255).all()  # on white, whatever the screen's scheme
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10
    rows = list(csv.reader((tmp_path / f"{figure}.csv").open(newline="")))
    columns = json.loads(
        browser.execute_script(f"return document.querySelector('[data-name=\"{figure}\"] script').textContent")
    )
    assert rows[0] == list(columns)
    assert len(rows) - 1 == len(next(iter(columns.values()))) > 0


def test_prints(browser, addresses):
    import base64

    browser.get(addresses["images"])
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert pdf[:5] == b"%PDF-"
    assert (
        3 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page/") + pdf.count(b"/Type/Page/") <= 20
        or len(pdf) > 50_000
    )


def test_foreign_script_does_not_run(browser, addresses, tmp_path):
    """The page allows its own script and no other, even if one got in."""
    from urllib.parse import unquote, urlparse

    text = Path(unquote(urlparse(addresses["table"]).path)).read_text()
    (tmp_path / "report.html").write_text(text.replace("</main>", "<script>document.title = 'taken'</script></main>"))
    browser.get((tmp_path / "report.html").as_uri())
    assert browser.title != "taken"
    browser.get_log("browser")

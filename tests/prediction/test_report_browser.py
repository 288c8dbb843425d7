"""The report in a real browser (Debian's chromium and chromium-driver, by selenium); skipped where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kemr_lightning.prediction.result import Failure
from tests.conftest import write_image
from tests.prediction.helpers import predict_folder

webdriver = pytest.importorskip("selenium.webdriver")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("there is no chromium with its driver", allow_module_level=True)

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--window-size=1300,1000"),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    driver.implicitly_wait(10)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on a folder with and without annotations; KEMR_KEEP_REPORT=DIR keeps it and its screenshots."""
    keep = os.environ.get("KEMR_KEEP_REPORT")
    directory = Path(keep) if keep else tmp_path_factory.mktemp("run")
    root = tmp_path_factory.mktemp("in")
    for index in range(6):
        write_image(root, f"image <{index}>", seed=index, annotated=index != 2)
    predict_folder(root, directory)
    return directory / "report.html"


@pytest.fixture
def page(browser: Any, report: Path) -> Any:
    browser.get(report.as_uri())
    # Pictures are drawn when they come near the part of the page that is seen.
    browser.find_element("css selector", "#gallery svg[data-image] .truth")
    return browser


def css(page: Any, selector: str) -> list[Any]:
    return list(page.find_elements("css selector", selector))


def shown_layers(page: Any, where: str = "#gallery") -> set[str]:
    """The layers that are drawn in any picture."""
    script = """
        return [...document.querySelectorAll(arguments[0] + " svg[data-image] .layer")]
            .filter((group) => getComputedStyle(group).display !== "none")
            .map((group) => group.classList[1]);
    """
    return set(page.execute_script(script, where))


def errors(page: Any) -> list[str]:
    return [entry["message"] for entry in page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def keep_screenshot(page: Any, report: Path, name: str) -> None:
    if os.environ.get("KEMR_KEEP_REPORT"):
        page.save_screenshot(str(report.parent / name))


def test_the_gallery_is_sorted_and_drawn(page: Any, report: Path) -> None:
    assert len(css(page, ".card")) == 6
    scores = [int(badge.text) for badge in css(page, ".badge")]
    assert scores == sorted(scores, reverse=True)
    assert css(page, "#counts rect")
    assert css(page, "#evaluation tbody tr")
    assert css(page, "#ious rect")
    pictures = page.execute_script(
        "return [...document.querySelectorAll('#gallery image')].map((one) => one.getBBox().width)"
    )
    assert pictures
    assert all(width == 128 for width in pictures)
    keep_screenshot(page, report, "gallery.png")
    assert errors(page) == []


def test_the_table_says_what_the_matching_says(page: Any) -> None:
    layers = page.execute_script("return data.evaluation.layers")
    rows = [
        [cell.text for cell in row.find_elements("css selector", "td")] for row in css(page, "#evaluation tbody tr")
    ]
    shown = {label: cells for label, *cells in rows}
    for column, layer in enumerate(("initial", "final")):
        found, predictions = layers[layer]["annotations"], layers[layer]["predictions"]
        assert int(shown["annotations"][column]) == sum(found.values()) == 20
        for label, kind in (("found", "matched"), ("missed", "missed"), ("merged", "merged"), ("split", "split")):
            assert int(shown[label][column]) == found.get(kind, 0)
        for label, kind in (("false predictions", "false"), ("pieces of chromosomes", "splitting")):
            assert int(shown[label][column]) == predictions.get(kind, 0)
        for name in ("isolated", "overlapped"):
            part = layers[layer][name]
            share = "–" if part["found"] is None else f"{part['found']:.1f} %"
            assert shown[f"found of {name}"][column] == f"{share} of {part['annotations']}"
    assert errors(page) == []


def test_layers_are_toggled(page: Any) -> None:
    assert shown_layers(page) == {"refined", "truth"}
    for name, expected in (
        ("truth", {"refined"}),
        ("initial", {"refined", "initial"}),
        ("refined", {"initial"}),
        ("truth", {"initial", "truth"}),
    ):
        css(page, f"#tools [data-layer={name}]")[0].click()
        assert shown_layers(page) == expected
    assert errors(page) == []


def test_hovering_shows_score_and_size(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    assert not css(page, "#tip")[0].is_displayed()
    ActionChains(page).move_to_element(css(page, "#gallery .areas path")[0]).perform()
    tip = css(page, "#tip")[0]
    assert tip.is_displayed()
    assert "score 0." in tip.text
    assert "px long" in tip.text
    ActionChains(page).move_to_element(css(page, "h1")[0]).perform()
    assert not tip.is_displayed()
    assert errors(page) == []


def test_one_image_large(page: Any, report: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    names = [name.text for name in css(page, ".card .name")]
    css(page, ".card .picture")[0].click()
    assert css(page, "#viewer")[0].is_displayed()
    assert css(page, "#name")[0].text == names[0]
    ActionChains(page).move_to_element(css(page, "#stage .areas path")[0]).perform()
    assert "score" in css(page, "#tip")[0].text
    keep_screenshot(page, report, "viewer.png")
    css(page, "#next")[0].click()
    assert css(page, "#name")[0].text == names[1]
    ActionChains(page).send_keys(Keys.ARROW_LEFT).perform()
    assert css(page, "#name")[0].text == names[0]
    before = view_box(page)
    ActionChains(page).scroll_from_origin(_centre(css(page, "#stage")[0]), 0, -300).perform()
    assert view_box(page)[2] < before[2]
    ActionChains(page).send_keys("3").perform()
    assert "truth" not in shown_layers(page, "#stage")
    css(page, "#bar [data-layer=initial]")[0].click()
    assert shown_layers(page, "#stage") == {"refined", "initial"}
    css(page, "#close")[0].click()
    assert not css(page, "#viewer")[0].is_displayed()
    assert errors(page) == []


def view_box(page: Any) -> list[float]:
    """The part of the image that the viewer shows: x, y, width, height."""
    text = page.execute_script("return document.querySelector('#stage svg').getAttribute('viewBox')")
    return [float(value) for value in text.split()]


def _centre(element: Any) -> Any:
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    return ScrollOrigin.from_element(element)


def test_sorting_and_finding(page: Any) -> None:
    from selenium.webdriver.support.select import Select

    Select(css(page, "#sort")[0]).select_by_value("name")
    assert [name.text for name in css(page, ".card .name")] == [f"image <{index}>.png" for index in range(6)]
    css(page, "#find")[0].send_keys("<3>")
    assert [name.text for name in css(page, ".card .name")] == ["image <3>.png"]
    assert css(page, "#shown")[0].text == "1 of 6 images"
    assert errors(page) == []


def test_images_without_annotations_and_refinement(browser: Any, tmp_path: Path) -> None:
    for index in range(2):
        write_image(tmp_path / "in", f"image {index}", seed=index, annotated=False)
    predict_folder(tmp_path / "in", tmp_path / "run", refine=False, failures=(Failure("<i>.png", "is & damaged"),))
    browser.get((tmp_path / "run" / "report.html").as_uri())
    browser.find_element("css selector", "#gallery svg[data-image] .initial")
    assert not css(browser, "#evaluation, #ious")
    assert shown_layers(browser) == {"initial"}
    assert [box.get_attribute("data-layer") for box in css(browser, "#tools [data-layer]")] == ["initial"]
    assert css(browser, "#failures li")[0].text == "<i>.png: is & damaged"
    css(browser, ".card .picture")[0].click()
    assert css(browser, "#stage .areas path")
    css(browser, "#close")[0].click()
    assert errors(browser) == []

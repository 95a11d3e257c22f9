"""Unusual good photographs in a real browser. The page runs in this process, with a training that takes no time."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from in_browser import JUDGED, WIDTHS, expect_accessible, picture
from starlette.middleware import Middleware

from benchmarks.page_process import chromium
from stlm_hub.model_folder import zoo
from stlm_hub.predict.prediction import Prediction
from stlm_hub.training.observer import Observer
from stlm_page import your_part_tab
from stlm_page.build import build_page
from stlm_page.guard import Guard
from stlm_page.theme import HEAD, STYLE, theme

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

pytestmark = [
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed; `make browser` installs it"),
    pytest.mark.usefixtures("page_cache"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def trained(make_prediction: Callable[..., Prediction], monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Any]]:
    """(steps, left out) of each training. 0.png and 1.png are unusual wherever they are not left out."""
    trained = []

    def finetune(
        folder: Path, name: str, *, output: Path, steps: int, leave_out: Sequence[str], observer: Observer, **_: Any
    ) -> Path:
        trained.append((steps, tuple(leave_out)))
        for number, unusual in enumerate(("0.png", "1.png")):
            if unusual not in leave_out:
                observer.on_unusual(unusual, make_prediction(240, 320, score=0.9 - 0.1 * number))
        brick = zoo.checkout_folder("sample-brick")
        assert brick is not None
        return Path(shutil.copytree(brick, output))

    monkeypatch.setattr(your_part_tab, "finetune", finetune)
    return trained


@pytest.fixture
def tab(trained: list[tuple[int, Any]], scratch_folders: Path) -> Iterator[sync_api.Page]:
    """ "Your part" in a browser."""
    page = build_page([], seconds_only=False)
    page.queue(api_open=False)
    _, url, _ = page.launch(
        prevent_thread_lock=True,
        quiet=True,
        theme=theme(),
        css_paths=STYLE,
        head=HEAD,
        ssr_mode=False,
        app_kwargs={"middleware": [Middleware(Guard)]},
    )
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTHS["wide"], "height": 900})
        tab.set_default_timeout(JUDGED)
        tab.goto(url)
        tab.get_by_role("tab", name="Your part").click()
        yield tab
        browser.close()
    page.close()


def test_one_after_the_other_is_left_out_and_stays_out(
    tab: sync_api.Page, trained: list[tuple[int, Any]], write_photographs: Callable[..., list[Path]], tmp_path: Path
) -> None:
    tab.locator("#part-files input[type=file]").set_input_files(write_photographs(tmp_path / "good", 11))
    expect(tab.locator("#part-files")).to_contain_text("10", timeout=JUDGED)
    expect(tab.locator("#part-unusual")).to_be_hidden()
    tab.get_by_label("Number of steps").check()
    tab.locator("#part-steps input").fill("8")
    tab.locator("#part-start").click()
    expect(tab.locator("#part-unusual-gallery img")).to_have_count(2, timeout=JUDGED)
    expect(tab.locator("#part-unusual-gallery")).to_contain_text("0.png: score 0.90")
    for width in WIDTHS:
        tab.set_viewport_size({"width": WIDTHS[width], "height": 900})
        picture(tab, f"your-part-unusual-{width}")
        expect_accessible(tab, f"unusual, {width}")

    tab.locator("#part-again").click()
    expect(tab.get_by_text("Choose the photographs that are not good").first).to_be_visible(timeout=JUDGED)
    tab.get_by_label(re.compile("At once")).check()  # the model is made again as it was made, whatever is chosen since
    tab.locator("#part-unusual-names").get_by_label("1.png").check()
    tab.locator("#part-again").click()
    expect(tab.locator("#part-status")).to_contain_text("Left out: 1.png.", timeout=JUDGED)
    expect(tab.locator("#part-unusual-gallery img")).to_have_count(1)
    tab.locator("#part-unusual-names").get_by_label("0.png").check()
    tab.locator("#part-again").click()
    expect(tab.locator("#part-status")).to_contain_text("Left out: 1.png, 0.png.", timeout=JUDGED)
    expect(tab.locator("#part-unusual")).to_be_hidden()
    tab.locator("#part-start").click()  # from the form: with all photographs
    expect(tab.locator("#part-unusual-gallery img")).to_have_count(2, timeout=JUDGED)
    assert trained == [(8, ()), (8, ("1.png",)), (8, ("1.png", "0.png")), (8, ())]

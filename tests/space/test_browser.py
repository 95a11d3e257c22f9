"""The page in a real browser: what a visitor does, at two widths, in two themes, with the mouse and with the keyboard.

Pictures of every state are left in `artefacts/`.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hub_server import TOKEN, HubServer
from in_browser import AXE, JUDGED, WIDTHS, expect_accessible, picture
from PIL import Image

from benchmarks.page_process import Page, chromium
from stlm_hub.stlm import STLM

sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

THEMES = ("light", "dark")
TRAINED = 240_000

if os.environ.get("STLM_REQUIRE_BROWSER") and not (chromium() and AXE.is_file()):
    pytest.fail("Chromium or axe-core is missing; run `make browser`.", pytrace=False)
pytestmark = [
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed; `make browser` installs it"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        arguments += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a webcam that is drawn
        browser = playwright.chromium.launch(executable_path=chromium(), args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: sync_api.Browser, page: Page) -> Iterator[callable]:  # type: ignore[valid-type]
    """Opens the page at a width and in a theme."""
    contexts = []

    def open(width: str = "wide", theme: str = "light") -> sync_api.Page:
        context = browser.new_context(viewport={"width": WIDTHS[width], "height": 900}, accept_downloads=True)
        context.grant_permissions(["camera", "clipboard-read", "clipboard-write"], origin=page.url)
        contexts.append(context)
        tab = context.new_page()
        tab.set_default_timeout(JUDGED)
        tab.goto(f"{page.url}/?__theme={theme}")
        expect(tab.locator("#model-facts")).to_contain_text("Image-level AUROC", timeout=JUDGED)
        return tab

    yield open
    for context in contexts:
        context.close()


def upload(tab: sync_api.Page, path: Path) -> None:
    tab.locator("#photo input[type=file]").set_input_files(path)


def expect_verdict(tab: sync_api.Page, words: str) -> None:
    expect(tab.locator("#verdict .word")).to_contain_text(words, timeout=JUDGED)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_verdicts_on_a_defective_and_on_a_good_part(open_page, photographs: Path, width: str, theme: str) -> None:
    tab = open_page(width, theme)
    expect(tab.locator("body")).to_have_class(
        re.compile(r"\bdark\b") if theme == "dark" else re.compile(r"^(?!.*dark)")
    )
    expect(tab.get_by_role("tab")).to_have_text(["Inspect", "Batch", "Your part", "First look", "About"])
    expect(tab.get_by_role("button", name="More tabs")).to_be_hidden()  # none waits behind a menu
    picture(tab, f"start-{width}-{theme}")
    expect_accessible(tab, "start")
    upload(tab, photographs / "crack.png")
    expect_verdict(tab, "Reject")
    expect(tab.locator("#rate")).to_contain_text("of good parts are flagged by mistake")
    expect(tab.locator("#compare img").first).to_be_visible()
    expect(tab.locator("#outline img")).to_be_visible()
    picture(tab, f"anomalous-{width}-{theme}")
    expect_accessible(tab, "anomalous")
    tab.get_by_role("button", name="Remove Image").click()
    expect(tab.locator("#verdict")).to_contain_text("Add a photograph")
    upload(tab, photographs / "good_1.png")
    expect_verdict(tab, "Pass")
    picture(tab, f"normal-{width}-{theme}")
    expect_accessible(tab, "normal")


def test_the_verdict_is_in_view_and_on_a_phone_between_photograph_and_examples(open_page, photographs: Path) -> None:
    for width in WIDTHS:
        tab = open_page(width)
        tab.set_viewport_size({"width": WIDTHS[width], "height": 740})
        upload(tab, photographs / "crack.png")
        expect_verdict(tab, "Reject")
        expect(tab.locator("#verdict .word")).to_be_in_viewport()
        photo, verdict, examples = (tab.locator(name).bounding_box() for name in ("#photo", "#verdict", "#examples"))
        below = photo["y"] + photo["height"]
        if width == "narrow":
            assert below <= verdict["y"] <= below + 40 and verdict["y"] + verdict["height"] <= examples["y"]
        else:
            assert verdict["x"] >= photo["x"] + photo["width"] and abs(verdict["y"] - photo["y"]) < 40
            assert examples["x"] < verdict["x"] and below <= examples["y"] <= below + 120
        tab.locator("#examples button").last.click()
        expect_verdict(tab, "Pass")
        expect(tab.locator("#verdict .word")).to_be_in_viewport()  # though the example was below it


def test_the_threshold_judges_again_without_the_model(open_page, photographs: Path) -> None:
    tab = open_page()
    upload(tab, photographs / "crack.png")
    expect_verdict(tab, "Reject")
    judged_in = re.search(r"Judged in \d+ ms", tab.inner_text("#verdict"))
    number = tab.locator("#threshold input[type=number]")
    number.fill("0.95")
    number.press("Tab")
    expect_verdict(tab, "Pass")
    expect(tab.locator("#rate")).to_contain_text("At 0.95 about")
    assert judged_in is not None and judged_in[0] in tab.inner_text("#verdict")
    number.fill("0.35")
    number.press("Tab")
    expect_verdict(tab, "Reject")
    expect(tab.locator("#rate")).to_contain_text(re.compile(r"about [2-9]\d % of good parts are flagged"))
    picture(tab, "threshold-low")


def test_scores_from_the_review_threshold_on_are_for_review(open_page, photographs: Path) -> None:
    tab = open_page()
    upload(tab, photographs / "crack.png")
    expect_verdict(tab, "Reject")
    review = tab.locator("#review input[type=number]")
    calibrated = float(review.input_value())
    number = tab.locator("#threshold input[type=number]")
    number.fill("0.95")
    number.press("Tab")
    expect_verdict(tab, "Pass")
    expect(review).not_to_have_value(str(calibrated))  # it moves along
    review.fill("0.3")
    review.press("Tab")
    expect_verdict(tab, "Review")
    expect(tab.locator("#verdict svg")).to_have_attribute(
        "aria-label", re.compile("Scores from 0.3 to it are for review")
    )
    review.fill("0.99")  # above the threshold: then nothing is for review
    review.press("Tab")
    expect_verdict(tab, "Pass")
    expect(review).to_have_value("0.95")
    picture(tab, "review")


def test_downloads_are_of_what_is_shown(open_page, photographs: Path) -> None:
    tab = open_page()
    upload(tab, photographs / "hole.png")
    expect_verdict(tab, "Reject")
    expect(tab.locator("#download-json")).to_be_visible()
    files = {}
    for kind in ("panel", "mask", "json"):
        with tab.expect_download() as download:
            tab.locator(f"#download-{kind}").click()
        files[kind] = Path(download.value.path()).read_bytes()
    facts = json.loads(files["json"])
    expected = STLM.from_pretrained("sample-brick").predict(photographs / "hole.png")
    assert facts["model"] == "sample-brick" and facts["photograph"] == "hole"
    assert facts["score"] == pytest.approx(expected.score, abs=1e-4)
    mask = np.array(Image.open(io.BytesIO(files["mask"])))
    assert mask.shape == expected.mask.shape and np.mean((mask > 0) != expected.mask) < 0.001
    assert Image.open(io.BytesIO(files["panel"])).width > 600


def test_an_outline_is_corrected_by_clicks_and_saved_as_a_mask(open_page, photographs: Path) -> None:
    tab = open_page("narrow")
    upload(tab, photographs / "hole.png")
    expect_verdict(tab, "Reject")
    tab.get_by_text("Correct the outline").click()
    shown = tab.locator("#correct-picture img")
    expect(tab.locator("#correct-words")).to_contain_text(re.compile(r"[1-9].* % of the photograph is marked"))
    tab.locator("#correct-empty").click()
    expect(tab.locator("#correct-words")).to_contain_text("Nothing is marked")
    tab.get_by_label("is a corner of an area to add").check()
    box = shown.bounding_box()
    assert box is not None
    said = [r"Two more corners", r"One more corner", r"1[23]\.\d %", r"2[4-6]\.\d %"]
    for (x, y), words in zip([(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)], said, strict=True):
        shown.click(position={"x": x * box["width"], "y": y * box["height"]})
        expect(tab.locator("#correct-words")).to_contain_text(re.compile(words))
    picture(tab, "corrected-narrow")
    expect_accessible(tab, "corrected")
    expect(tab.locator("#correct-save")).to_be_enabled()
    with tab.expect_download() as download:
        tab.locator("#correct-save").click()
    assert download.value.suggested_filename == "hole_mask.png"
    mask = np.array(Image.open(download.value.path())) > 0
    height, width = mask.shape
    assert mask.shape == np.array(Image.open(photographs / "hole.png")).shape[:2]
    assert abs(mask.mean() - 0.25) < 0.02 and mask[height // 2, width // 2] and not mask[height // 8, width // 8]


def test_the_first_look_says_what_a_name_alone_needs(open_page) -> None:
    tab = open_page()
    tab.get_by_role("tab", name="First look").click()
    tab.get_by_label("the name of the part: CLIP").check()
    expect(tab.locator("#few-clip")).to_be_visible()
    picture(tab, "first-look")
    expect_accessible(tab, "first look")


def test_another_model_judges_the_same_photograph(open_page, photographs: Path) -> None:
    tab = open_page()
    upload(tab, photographs / "crack.png")
    expect_verdict(tab, "Reject")
    tab.get_by_label("Model").first.click()
    tab.get_by_role("option", name=re.compile("mvtec-bottle")).click()
    expect(tab.locator("#model-facts")).to_contain_text("Not for commercial use", timeout=JUDGED)
    expect(tab.locator("#rate")).to_contain_text("good photographs", timeout=JUDGED)
    tab.get_by_role("tab", name="About").click()
    expect(tab.locator("#card")).to_contain_text("The paper", timeout=JUDGED)
    expect(tab.locator("#card img").first).to_be_visible()
    picture(tab, "about")
    expect_accessible(tab, "about")


def test_what_cannot_be_used_is_said_in_a_sentence(open_page, photographs: Path, tmp_path: Path) -> None:
    tab = open_page()
    upload(tab, photographs / "good_1.png")
    expect_verdict(tab, "Pass")
    tab.get_by_role("button", name="Remove Image").click()
    expect(tab.locator("#verdict")).to_contain_text("Add a photograph")
    broken = tmp_path / "broken part.png"
    broken.write_bytes((photographs / "crack.png").read_bytes()[:3000])
    upload(tab, broken)
    expect(
        tab.get_by_text(re.compile("broken part.png.*(truncated|damaged|cannot)", re.IGNORECASE)).first
    ).to_be_visible()
    expect(tab.locator("#verdict")).to_contain_text("There is no verdict for this photograph")
    picture(tab, "broken")
    tab.reload()
    model = tab.get_by_label("Model").first
    model.fill("mvtec-botle")
    model.press("Enter")
    expect(tab.get_by_text('There is no model "mvtec-botle"').first).to_be_visible()
    expect(tab.get_by_text("Did you mean mvtec-bottle?").first).to_be_visible()


def test_sixteen_bit_photographs_are_read_by_the_library(open_page, photographs: Path, tmp_path: Path) -> None:
    grey = np.array(Image.open(photographs / "crack.png").convert("L")).astype(np.uint16)
    deep = tmp_path / "deep.png"
    Image.fromarray(grey * 257).save(deep)
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "flat.png")
    expected = STLM.from_pretrained("sample-brick").predict(tmp_path / "flat.png")
    tab = open_page()
    upload(tab, deep)
    expect_verdict(tab, "Reject" if expected.is_anomalous else "Pass")
    shown = re.search(r"this photograph ([\d.]+)", tab.locator("#verdict svg").text_content() or "")
    assert shown is not None and float(shown[1]) == pytest.approx(expected.score, rel=2e-2)


def test_a_photograph_comes_from_the_webcam_or_the_clipboard(open_page, photographs: Path) -> None:
    tab = open_page()
    tab.get_by_label("Capture from camera").click()
    tab.get_by_role("button", name="Click to Access Webcam").click()
    tab.wait_for_function("document.querySelector('#photo video')?.videoWidth > 0")
    tab.wait_for_timeout(500)  # until the first frame is there
    tab.get_by_label("capture photo").click()
    expect_verdict(tab, "Unfamiliar")  # the browser's made-up picture
    tab.get_by_role("button", name="Remove Image").click()
    expect(tab.locator("#verdict")).to_contain_text("Add a photograph")
    data = base64.b64encode((photographs / "crack.png").read_bytes()).decode()
    tab.evaluate(
        """async (data) => {
            const photograph = await (await fetch(`data:image/png;base64,${data}`)).blob();
            await navigator.clipboard.write([new ClipboardItem({"image/png": photograph})]);
        }""",
        data,
    )
    tab.get_by_label("Paste from clipboard").click()
    expect_verdict(tab, "Reject")


def test_examples_work_with_the_keyboard(open_page) -> None:
    tab = open_page()
    example = tab.locator("#examples button").first
    example.focus()
    outline = example.evaluate("element => getComputedStyle(element).outlineStyle")
    tab.keyboard.press("Enter")
    expect_verdict(tab, "Reject")
    assert outline != "none"
    handle = tab.locator("#threshold input[type=range]")
    handle.focus()
    for _ in range(3):
        tab.keyboard.press("End")
    expect_verdict(tab, "Pass")


@pytest.mark.parametrize(("width", "theme"), [("wide", "light"), ("narrow", "dark")])
def test_a_batch_reports_a_broken_file_and_goes_on(
    open_page, photographs: Path, tmp_path: Path, width: str, theme: str
) -> None:
    archive = tmp_path / "parts.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for name in ("crack.png", "good_1.png"):
            made.write(photographs / name, f"line 1/{name}")
        made.writestr("line 1/broken.png", b"not a picture")
        made.writestr("line 1/notes.txt", b"not looked at")
    tab = open_page(width, theme)
    tab.get_by_role("tab", name="Batch").click()
    tab.locator("#batch-files input[type=file]").set_input_files([archive, photographs / "hole.png"])
    expect(tab.locator("#batch-files")).to_contain_text("hole")
    tab.locator("#batch-start").click()
    expect(tab.locator("#batch-summary")).to_contain_text(
        "2 of 3 photographs are rejected, 1 could not be used", timeout=JUDGED
    )
    expect(tab.locator("#batch-gallery img")).to_have_count(3)
    picture(tab, f"batch-{width}-{theme}")
    expect_accessible(tab, "batch")
    with tab.expect_download() as download:
        tab.locator("#batch-csv").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8-sig"))))
    assert [row["file"] for row in rows] == ["line 1/broken.png", "line 1/crack.png", "line 1/good_1.png", "hole.png"]
    assert [row["verdict"] for row in rows] == ["unusable", "Reject", "Pass", "Reject"]
    assert "broken.png" in rows[0]["note"]
    with tab.expect_download() as download:
        tab.locator("#batch-zip").click()
    with zipfile.ZipFile(download.value.path()) as made:
        names = made.namelist()
    assert sum(name.startswith("panels/") for name in names) == 3 and "verdicts.csv" in names


def test_a_batch_can_be_stopped(open_page, photographs: Path, tmp_path: Path) -> None:
    archive = tmp_path / "many.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for number in range(400):  # more than are judged before anyone can press
            made.write(photographs / "good_1.png", f"{number:03d}.png")
    tab = open_page()
    tab.get_by_role("tab", name="Batch").click()
    tab.locator("#batch-files input[type=file]").set_input_files(archive)
    expect(tab.locator("#batch-files")).to_contain_text("many")
    tab.locator("#batch-start").click()
    expect(tab.locator("#batch-gallery img").first).to_be_visible(timeout=JUDGED)
    tab.locator("#batch-stop").click()
    expect(tab.locator("#batch-summary")).to_contain_text(re.compile(r"Stopped after \d+ of 400"), timeout=JUDGED)
    expect(tab.locator("#batch-start")).to_be_enabled()


def test_a_model_of_ones_own_is_made_used_and_pushed(
    open_page, good_parts: list[Path], photographs: Path, hub: HubServer, tmp_path: Path
) -> None:
    tab = open_page()
    tab.get_by_role("tab", name="Your part").click()
    picture(tab, "your-part-start")
    expect_accessible(tab, "your part")
    tab.locator("#part-files input[type=file]").set_input_files(good_parts)
    expect(tab.locator("#part-files")).to_contain_text("011")
    tab.get_by_label("Name of the model").fill("my-brick")
    tab.get_by_label("Number of steps").check()
    tab.locator("#part-steps input").fill("8")  # long enough to be seen: the page is looked at once a second
    tab.locator("#part-start").click()
    expect(tab.locator("#part-status")).to_contain_text(re.compile(r"Step \d of 8.*left"), timeout=TRAINED)
    picture(tab, "your-part-training")
    expect(tab.locator("#part-status")).to_contain_text("my-brick is finished", timeout=TRAINED)
    expect(tab.locator("#part-scale svg")).to_be_visible()
    picture(tab, "your-part-finished")
    expect_accessible(tab, "your part, finished")
    with tab.expect_download() as download:
        tab.locator("#part-zip").click()
    with zipfile.ZipFile(download.value.path()) as made:
        made.extractall(tmp_path / "model")
    model = STLM.from_pretrained(tmp_path / "model")
    assert model.config.category == "my-brick" and model.calibration is not None

    tab.get_by_text("Push it to the Hugging Face Hub").click()
    tab.get_by_label("Repository").fill("someone/my-brick")
    tab.get_by_label(re.compile("Access token")).fill(TOKEN)
    tab.locator("#part-push").click()
    expect(tab.locator("#part-pushed")).to_contain_text("Published at", timeout=JUDGED)
    expect(tab.get_by_label(re.compile("Access token"))).to_have_value("")
    assert "model.safetensors" in hub.repos["someone/my-brick"].tree

    tab.locator("#part-use").click()
    expect(tab.locator("#model-facts")).to_contain_text("Not measured", timeout=JUDGED)
    tab.get_by_role("tab", name="Inspect").click()
    upload(tab, photographs / "good_1.png")
    expect(tab.locator("#rate")).to_contain_text("good photographs", timeout=JUDGED)


def test_a_training_can_be_stopped_and_too_few_photographs_are_refused(open_page, good_parts: list[Path]) -> None:
    tab = open_page()
    tab.get_by_role("tab", name="Your part").click()
    files = tab.locator("#part-files input[type=file]")
    files.set_input_files(good_parts[:3])
    expect(tab.locator("#part-files")).to_contain_text("002")
    tab.locator("#part-start").click()
    expect(
        tab.get_by_text(re.compile("^The upload holds 3 photographs; training needs at least 8")).first
    ).to_be_visible()
    expect(tab.locator("#part-start")).to_be_enabled()
    tab.reload()
    tab.get_by_role("tab", name="Your part").click()
    files.set_input_files(good_parts)
    expect(tab.locator("#part-files")).to_contain_text("011")
    tab.get_by_label("Time budget").check()
    tab.locator("#part-start").click()
    expect(tab.locator("#part-stop")).to_be_enabled()
    tab.locator("#part-stop").click()
    expect(tab.locator("#part-status")).to_contain_text("Stopped", timeout=TRAINED)
    expect(tab.locator("#part-start")).to_be_enabled()

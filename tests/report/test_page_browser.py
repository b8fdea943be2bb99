"""The page in a browser: it sorts, filters, chooses, slides, and keeps to itself."""

import io
import shutil
from contextlib import contextmanager

import pytest
from made_gallery import write_gallery
from made_rows import make_row, write_run
from PIL import Image

from unlossy.report import write_page

playwright = pytest.importorskip("playwright.sync_api")
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium on PATH: apt-get install chromium"
)
# Chromium's own sandbox does not start for root, which is who tests in a container.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")
PSNR = {"low": 9.5, "high": 100.0, "mid": 30.25}  # as text, 100 comes first


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    for degradation, loss, gain in (
        ("gif", "grad", 1.0),
        ("hevc", "grad", 0.5),
        ("gif", "l1", 0.9),
    ):
        rows = [
            make_row(
                model, clip, psnr + added, loss=trained, degradation=degradation, source=source
            )
            for source in ("bunny", "clips")
            for clip, psnr in PSNR.items()
            for model, trained, added in (("input", "", 0.0), ("ccdnet", loss, gain))
        ]
        folder = write_run(root / "runs", f"{degradation}_{loss}", rows, metrics="2,val/psnr,30.0")
        if degradation == "gif":
            write_gallery(folder, PSNR, ["ccdnet"], color=(0, 90 if loss == "l1" else 180, 0))
    return write_page(root / "runs", root / "out")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=BROWSER, args=FLAGS)
        except playwright.Error as error:  # such as a stand-in that tells of another package
            pytest.skip(f"{BROWSER} does not start: {error}")
        yield browser
        browser.close()


@contextmanager
def listening(browser, made, **options):
    """Yield a page and what it complained of or asked for, which is nothing but itself."""
    context, heard = browser.new_context(**options), []

    def answer(route):
        if route.request.url == made.as_uri():
            route.continue_()
        else:
            heard.append(route.request.url)
            route.abort()

    context.route("**/*", answer)
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    yield page, heard
    context.close()


@pytest.fixture(scope="module")
def shared(browser, made):
    with listening(browser, made, viewport={"width": 1280, "height": 900}) as both:
        yield both


@pytest.fixture
def page(shared, made):
    """The page, opened anew in the one tab that all tests use."""
    page, heard = shared
    page.goto(made.as_uri())
    yield page
    page.evaluate("localStorage.clear()")
    assert not heard


def test_sorting_and_filtering(page):
    table = page.locator("#clips table.clips:visible").first
    head = table.locator("thead th", has_text="input")
    cells = table.locator("tbody tr:visible td:nth-child(4)")
    head.locator("button").click()
    assert cells.all_inner_texts() == ["100.00", "30.25", "9.50"]
    assert head.get_attribute("aria-sort") == "descending"
    head.locator("button").press("Enter")
    assert cells.all_inner_texts() == ["9.50", "30.25", "100.00"]
    assert head.get_attribute("aria-sort") == "ascending"
    table.locator("thead button").first.press("Space")
    assert table.locator("tbody th").all_inner_texts() == ["high", "low", "mid"]
    assert head.get_attribute("aria-sort") is None

    page.get_by_label("Clips that contain").fill("MI")
    assert table.locator("tbody th:visible").all_inner_texts() == ["mid"]
    assert page.locator("output").inner_text() == "2 of 6 clips"  # two degradations


def test_source_metric_and_columns_are_chosen(page):
    shown = page.locator("#results [data-metric]:visible h3")
    assert shown.all_inner_texts() == ["bunny: PSNR (higher is better)"]
    page.locator("#results select[data-choose=source]").select_option("clips")
    page.locator("#results select[data-choose=metric]").select_option("lpips_alex")
    assert shown.all_inner_texts() == ["clips: LPIPS (lower is better)"]
    assert page.locator("#pairs select[data-choose=source]").input_value() == "clips"
    assert page.locator("#pairs [data-source=bunny]:visible").count() == 0

    page.locator("#results summary:visible").first.click()
    median = page.locator("#results th:visible", has_text="median")
    assert median.count() == 0
    page.get_by_label("Every column").press("Space")
    assert median.count() == 1


def pixel(page, view, share):
    """Return red, green and blue at a share of the width of a view, half way down."""
    view.evaluate("view => Promise.all([...view.children].map(each => each.decode?.()))")
    box = view.bounding_box()
    clip = {"x": box["x"] + share * box["width"], "y": box["y"] + box["height"] / 2}
    picture = page.screenshot(clip=clip | {"width": 1, "height": 1})
    return Image.open(io.BytesIO(picture)).convert("RGB").getpixel((0, 0))


def test_the_slider_moves_by_mouse_and_keyboard_and_shows_what_is_chosen(page):
    exhibit = page.locator(".exhibit:visible")
    view, divider = exhibit.locator(".view"), exhibit.locator("input[type=range]")
    divider.scroll_into_view_if_needed()
    red, green, blue = (200, 0, 0), (0, 90, 0), (0, 0, 200)
    assert [pixel(page, view, share) for share in (0.25, 0.75)] == [red, green]
    box = view.bounding_box()
    height = box["y"] + 0.8 * box["height"]
    page.mouse.move(box["x"] + 0.5 * box["width"], height)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.9 * box["width"], height)
    page.mouse.up()
    page.mouse.move(box["x"] + 0.1 * box["width"], height)
    assert divider.input_value() == "90"
    assert pixel(page, view, 0.75) == red
    divider.press("Home")
    assert pixel(page, view, 0.25) == green
    divider.press("ArrowRight")
    assert divider.input_value() == "1"
    exhibit.locator("select[data-side=right]").select_option("clean")
    assert pixel(page, view, 0.25) == blue


def test_one_clip_is_shown_at_a_time(page):
    shown = page.locator(".exhibit:visible h3")
    assert len(shown.all_inner_texts()) == 1
    second = page.locator(".thumbs button").nth(1)
    second.press("Enter")
    assert second.get_attribute("aria-pressed") == "true"
    assert page.locator(".thumbs [aria-pressed=true]").count() == 1
    (name,) = shown.all_inner_texts()
    assert name.startswith("high")


def test_the_theme_follows_the_system_until_one_is_chosen_and_is_remembered(page):
    ground = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    page.locator("#theme").click()
    light = page.evaluate(ground)
    assert light != dark
    assert page.locator("#theme").inner_text() == "Theme: light"
    page.reload()
    assert page.evaluate(ground) == light
    page.locator("#theme").click()
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == dark


def test_a_theme_is_named_where_storage_is_refused(browser, made):
    refused = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})"
    with listening(browser, made) as (page, heard):
        page.add_init_script(refused)
        page.goto(made.as_uri())
        assert page.locator("#theme").inner_text() == "Theme: auto"
        page.locator("#theme").click()
        assert page.locator("#theme").inner_text() == "Theme: light"
        assert not heard


def test_a_long_name_of_a_model_stays_within_its_column(page):
    head = page.locator("#clips table.clips:visible thead th").last
    head.locator("button").evaluate(
        "each => { each.textContent = 'checkpoint=' + 'n'.repeat(60); }"
    )
    inner, outer = head.locator("button").bounding_box(), head.bounding_box()
    assert inner["x"] >= outer["x"]
    assert head.evaluate("each => each.scrollWidth <= each.clientWidth")


def test_focus_is_seen_and_begins_with_a_way_past_the_head(page):
    page.keyboard.press("Tab")
    focus = "document.activeElement"
    assert page.evaluate(f"{focus}.className") == "skip"
    assert page.evaluate(f"{focus}.getBoundingClientRect().left") >= 0
    for _ in range(12):  # button, contents, selects, tables
        page.keyboard.press("Tab")
        assert page.evaluate(f"getComputedStyle({focus}).outlineStyle") == "solid"


def test_a_telephone_scrolls_tables_and_never_the_page(page):
    page.set_viewport_size({"width": 360, "height": 740})
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.get_by_label("Every column").check()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    wider = "each => each.scrollWidth > each.clientWidth && each.tabIndex === 0"
    assert page.evaluate(f"[...document.querySelectorAll('.scroll')].some({wider})")


def test_without_scripts_everything_can_be_read(browser, made):
    with listening(browser, made, java_script_enabled=False) as (page, heard):
        page.goto(made.as_uri())
        assert page.locator("select:visible, .thumbs:visible, #theme:visible").count() == 0
        tables = page.locator("#clips table, #pairs table")
        assert page.locator("#clips table:visible, #pairs table:visible").count() == tables.count()
        assert page.locator(".stills img:visible").count() == 12
        page.emulate_media(media="print")
        assert page.locator("nav:visible").count() == 0
        assert not heard

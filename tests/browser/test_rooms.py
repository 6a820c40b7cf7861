"""A panel in other rooms than a laptop: a wide screen, a lecture hall, forced colours."""

import io

import pytest
from PIL import Image

from tests.browser.live import opened

pytestmark = pytest.mark.browser
# the least font size of the texts that a selector finds, of those in sight
LEAST = """(root, selector) => Math.min(...[...root.querySelectorAll(selector)]
  .filter((element) => element.getBoundingClientRect().width)
  .map((element) => parseFloat(getComputedStyle(element).fontSize)))"""


@pytest.fixture(scope="module", params=["overview", "race"])
def panel(request, url, chrome, notebooks):
    source = f"lk.explore.{request.param}()"
    with opened(url, chrome, notebooks, request.param, source, width=1920, height=1080) as found:
        yield found


def entry(panel, name):
    panel.locator(".labkit-more summary").click()
    panel.get_by_role("button", name=name).click()


def in_sight(panel):
    return [control for control in panel.locator(".labkit-control").all() if control.is_visible()]


def test_a_wide_screen_is_used(panel):
    box = panel.bounding_box()
    assert box["width"] >= 1_500
    assert box["y"] + box["height"] <= 1_080


def test_presenter_fills_the_screen_with_large_figures_and_few_controls(panel):
    entry(panel, "presenter")
    panel.page.wait_for_function("() => document.fullscreenElement")
    panel.page.wait_for_function(
        "root => root.getBoundingClientRect().width === innerWidth", arg=panel.element_handle()
    )
    assert panel.bounding_box() == {"x": 0, "y": 0, "width": 1920, "height": 1080}
    assert panel.evaluate("root => root.scrollHeight <= innerHeight")
    assert panel.evaluate(LEAST, ".labkit-value") >= 44
    assert panel.evaluate(LEAST, ".labkit-note, .labkit-status") >= 16
    tracks = [slider.bounding_box()["width"] for slider in panel.get_by_role("slider").all() if slider.is_visible()]
    assert min(tracks) >= 400
    assert 2 <= len(in_sight(panel)) <= 3


def test_presenter_shows_every_control_when_asked_and_ends_as_it_began(panel):
    count = panel.locator(".labkit-control").count()
    if count > 3:
        panel.get_by_role("button", name="more controls").click()
        assert len(in_sight(panel)) == count
        panel.get_by_role("button", name="fewer controls").click()
        assert len(in_sight(panel)) == 3
    entry(panel, "presenter")
    panel.page.wait_for_function("() => !document.fullscreenElement")
    assert len(in_sight(panel)) == count
    assert panel.evaluate(LEAST, ".labkit-value") < 44


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_forced_colours_leave_a_slider_to_be_seen(panel, scheme):
    panel.page.emulate_media(forced_colors="active", color_scheme=scheme)
    slider = next(s for s in panel.get_by_role("slider").all() if s.is_enabled())
    slider.press("Home")
    panel.page.wait_for_function("root => !root.labkitAsks()", arg=panel.element_handle())
    picture = Image.open(io.BytesIO(slider.screenshot())).convert("L")
    middle = picture.height // 2
    background, thumb, track = (picture.getpixel(at) for at in ((picture.width - 1, 0), (9, middle), (60, middle)))
    assert abs(thumb - background) > 60
    assert abs(track - background) > 60
    panel.page.emulate_media(forced_colors="none", color_scheme="light")

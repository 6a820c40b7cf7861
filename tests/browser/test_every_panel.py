"""Every panel in a real JupyterLab at 1280 × 720: it fits, is readable, responds to its keys, in both themes."""

import re

import pytest

from labkit import explore
from tests.browser.live import alt, answered, opened, violations

pytestmark = pytest.mark.browser
ROOM = 599  # px that JupyterLab leaves a notebook at this size
SIZES = """root => {
  const svg = root.querySelector("svg.labkit-svg"), box = svg.getBoundingClientRect();
  const scale = Math.min(box.width / svg.viewBox.baseVal.width, box.height / svg.viewBox.baseVal.height);
  const found = [];
  for (const element of root.querySelectorAll("text, tspan, div, label, button, select, input, summary, option")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const around = element.getBoundingClientRect();
    if (!(own || element.tagName === "SELECT") || !around.width || element.closest(".labkit-spoken")) continue;
    const size = parseFloat(getComputedStyle(element).fontSize) * (element.closest("svg") ? scale : 1);
    const name = element.className.baseVal ?? element.className;
    found.push([Math.round(10 * size) / 10, element.textContent.trim().slice(0, 30), name]);
  }
  return found;
}"""
# texts of the picture that lie outside of it, or of the panel
OUTSIDE = """root => {
  const box = root.querySelector("svg.labkit-svg").getBoundingClientRect();
  return [...root.querySelectorAll("svg.labkit-svg text")].filter((text) => {
    const r = text.getBoundingClientRect();
    const inside = r.left > box.left - 2 && r.right < box.right + 2 && r.top > box.top - 2 && r.bottom < box.bottom + 2;
    return r.width && !inside;
  }).map((text) => text.textContent);
}"""


@pytest.fixture(scope="module", params=explore.__all__)
def panel(request, url, chrome, notebooks):
    source = f"lk.explore.{request.param}()"
    with opened(url, chrome, notebooks, request.param, source, width=1280, height=720) as found:
        yield found


def test_it_fits_the_screen_whole(panel):
    box = panel.bounding_box()
    assert box["height"] <= ROOM
    assert box["width"] > 1_050
    assert panel.page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")


def test_everything_can_be_read(panel):
    found = panel.evaluate(SIZES)
    assert len(found) > 20
    assert [text for text in found if text[0] < 13] == []
    cards = [size for size, _, name in found if name == "labkit-value"]
    assert min(cards) >= 26
    assert panel.evaluate(OUTSIDE) == []
    ranges = panel.get_by_role("slider").all()
    assert min(slider.bounding_box()["width"] for slider in ranges) >= 220


def sliders(panel):
    return [slider for slider in panel.get_by_role("slider").all() if slider.is_enabled()]


def test_every_slider_has_a_name_moves_by_keyboard_and_tells_its_value(panel):
    assert len(sliders(panel)) > 0
    for slider in sliders(panel):
        label = panel.locator(f'label[for="{slider.get_attribute("id")}"]').text_content()
        assert label
        before, words = slider.get_attribute("aria-valuetext"), alt(panel)
        last = slider.input_value() == slider.get_attribute("max")
        slider.press("ArrowLeft" if last else "ArrowRight")
        panel.page.wait_for_function("root => !root.labkitAsks()", arg=panel.element_handle())
        assert slider.get_attribute("aria-valuetext") != before
        assert alt(panel) != words
        slider.press("ArrowRight" if last else "ArrowLeft")
        panel.page.wait_for_function("root => !root.labkitAsks()", arg=panel.element_handle())
        assert slider.get_attribute("aria-valuetext") == before


def test_a_typed_value_is_taken_and_nonsense_refused_in_words(panel):
    slider = sliders(panel)[0]
    typed = slider.locator("xpath=preceding-sibling::input")
    before = typed.input_value()
    slider.press("ArrowLeft" if slider.input_value() == slider.get_attribute("max") else "ArrowRight")
    panel.page.wait_for_function("root => !root.labkitAsks()", arg=panel.element_handle())
    typed.fill(before)
    typed.press("Enter")
    panel.page.wait_for_function("root => !root.labkitAsks()", arg=panel.element_handle())
    assert slider.get_attribute("aria-valuetext") == before
    typed.fill("nonsense")
    typed.press("Enter")
    panel.locator(".labkit-status.labkit-error", has_text="allowed: ").wait_for()
    slider.press("Home")
    panel.page.wait_for_function("root => !root.labkitAsks()", arg=panel.element_handle())
    assert panel.locator(".labkit-status.labkit-error").count() == 0


def test_shortcuts_of_jupyterlab_do_not_fire_while_a_control_has_the_focus(panel):
    cells = panel.page.locator(".jp-Cell").count()
    slider = sliders(panel)[0]
    for key in "ddbaxzm":
        slider.press(key)
    assert panel.page.locator(".jp-Cell").count() == cells
    assert panel.page.locator(".jp-Dialog").count() == 0
    assert panel.page.locator(".jp-CodeCell").count() == cells


def test_reset_brings_the_first_settings_back(panel):
    panel.get_by_role("button", name="reset").click()
    answered(panel)
    start = [slider.get_attribute("aria-valuetext") for slider in panel.get_by_role("slider").all()]
    slider = sliders(panel)[-1]
    slider.press("ArrowLeft" if slider.input_value() == slider.get_attribute("max") else "ArrowRight")
    panel.page.wait_for_function("root => !root.labkitAsks()", arg=panel.element_handle())
    assert [s.get_attribute("aria-valuetext") for s in panel.get_by_role("slider").all()] != start
    panel.get_by_role("button", name="reset").click()
    same = "([root, texts]) => [...root.querySelectorAll('[type=range]')].every((r, i) => r.ariaValueText === texts[i])"
    panel.page.wait_for_function(same, arg=[panel.element_handle(), start])


def test_points_of_the_picture_can_be_reached_by_keyboard(panel):
    picture = panel.locator(".labkit-picture")
    if not panel.evaluate("root => root.labkitPoints()"):
        pytest.skip("a picture without points")
    picture.focus()
    seen = set()
    for _ in range(3):
        picture.press("ArrowRight")
        tip = panel.locator(".labkit-tip")
        assert tip.is_visible()
        seen.add(tip.text_content())
        box, around = tip.bounding_box(), panel.bounding_box()
        assert box["x"] >= around["x"]
        assert box["x"] + box["width"] <= around["x"] + around["width"] + 1
    assert seen
    picture.press("Escape")
    assert not panel.locator(".labkit-tip").is_visible()


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_nothing_in_either_theme(panel, theme):
    page = panel.page
    page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', { theme })", theme)
    light = str("Light" in theme).lower()
    page.wait_for_function(f"() => document.body.dataset.jpThemeLight === '{light}'")
    page.wait_for_timeout(300)
    assert violations(page) == []


def luminance(colour):
    r, g, b = (int(v) / 255 for v in re.findall(r"\d+", colour)[:3])
    lin = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (r, g, b)]
    return 0.2126 * lin[0] + 0.7152 * lin[1] + 0.0722 * lin[2]


def test_texts_of_the_picture_stand_out_in_the_dark(panel):
    """axe does not check texts inside the picture."""
    assert "Dark" in panel.page.evaluate("() => document.body.dataset.jpThemeName")
    paper = luminance(panel.evaluate("root => getComputedStyle(root).backgroundColor"))
    fills = panel.evaluate(
        "root => [...new Set([...root.querySelectorAll('svg.labkit-svg text')].map(t => getComputedStyle(t).fill))]"
    )
    for fill in fills:
        light, dark = sorted((luminance(fill), paper), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, fill

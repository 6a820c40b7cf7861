"""The overview in a real JupyterLab, as a person uses it: mouse, buttons, fast drags, two cells, a restarted kernel."""

import csv
import re

import nbformat
import pytest

from benchmarks import lab
from tests.browser.account import accuracy, dense_weights, prune_globally, round_symmetric
from tests.browser.live import alt, answered, card, handle, opened, press, settle, shown_value, waited

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def panel(url, chrome, notebooks):
    with opened(url, chrome, notebooks, "life", "lk.explore.overview()") as found:
        yield found


@pytest.fixture(autouse=True)
def at_first(request):
    """Each test begins with the initial settings of the panel."""
    yield
    if "panel" in request.fixturenames:
        panel = request.getfixturevalue("panel")
        panel.get_by_role("button", name="reset").click()
        panel.page.wait_for_timeout(300)
        settle(panel)


def expected(sparsity, bits):
    return f"{accuracy(round_symmetric(prune_globally(dense_weights(), sparsity), bits)):.2%}"


def at(panel):
    return float(shown_value(panel, "sparsity").rstrip(" %")) / 100, int(shown_value(panel, "bits").split()[0])


def test_a_click_on_a_measured_point_goes_there(panel):
    picture = panel.locator("svg.labkit-svg").bounding_box()
    x, y = panel.evaluate("root => { const p = root.labkitPoint(40); return [p[0], p[1]]; }")
    scale = picture["width"] / panel.evaluate("root => root.querySelector('svg.labkit-svg').viewBox.baseVal.width")
    panel.page.mouse.move(picture["x"] + x * scale, picture["y"] + y * scale)
    tip = panel.locator(".labkit-tip").text_content()
    said = re.match(r"sparsity (\d+)%, (.*?): ([\d.]+%), ", tip)
    assert "click or Enter: go there" in tip
    panel.page.mouse.click(picture["x"] + x * scale, picture["y"] + y * scale)
    panel.page.wait_for_function(
        "([root, text]) => root.dataset.alt.includes(text)", arg=[panel.element_handle(), said[3]]
    )
    settle(panel)
    assert shown_value(panel, "sparsity") == f"{said[1]} %"
    assert card(panel, "accuracy")[0] == said[3]


@pytest.mark.parametrize(("typed", "value"), [("87%", "87 %"), ("87", "87 %"), ("93,5%", "93.5 %"), ("0.42", "42 %")])
def test_a_share_can_be_typed_as_people_write_it(panel, typed, value):
    field = panel.get_by_label("sparsity, typed")
    field.fill(typed)
    field.press("Enter")
    settle(panel)
    assert (shown_value(panel, "sparsity"), field.input_value()) == (value, value)
    assert card(panel, "accuracy")[0] == expected(*at(panel))


def test_a_picture_that_was_drawn_ahead_is_there_before_the_kernel_answers(panel):
    slider, root = handle(panel, "sparsity"), panel.element_handle()
    slider.focus()
    panel.page.wait_for_function("root => Number(root.dataset.ready) >= 6", arg=root)
    there = panel.evaluate("""root => {
      const range = root.querySelector("input[type=range]");
      range.value = Number(range.value) + 1;
      range.dispatchEvent(new Event("input", { bubbles: true }));
      return [root.labkitAsks(), root.dataset.request === root.dataset.asked, root.dataset.alt];
    }""")
    assert there[:2] == [1, True]
    assert f"accuracy {expected(*at(panel))} " in there[2]
    settle(panel)
    assert alt(panel) == there[2]


def test_a_hundred_fast_moves_end_in_the_last_value(panel):
    panel.evaluate("""root => new Promise(done => {
      const [first, second] = root.querySelectorAll("input[type=range]");
      let i = 0;
      const step = () => {
        const range = i % 3 ? first : second;
        range.value = range === first ? (37 * i) % 99 : i % 8;
        range.dispatchEvent(new Event("input", { bubbles: true }));
        ++i < 100 ? setTimeout(step, 8) : done();
      };
      step();
    })""")
    settle(panel)
    assert shown_value(panel, "sparsity") == f"{(37 * 98) % 99} %"
    assert shown_value(panel, "bits") == str(99 % 8 + 1)
    assert card(panel, "accuracy")[0] == expected(*at(panel))


def test_pin_keeps_a_result_in_sight_and_says_the_difference(panel):
    before = card(panel, "accuracy")[0]
    panel.get_by_role("button", name="pin").click()
    panel.locator(".labkit-has-pinned").wait_for()
    press(panel, "sparsity", "PageUp")
    after = card(panel, "accuracy")[0]
    assert panel.locator(".labkit-pinned").first.text_content() == f"pinned: {before}"
    difference = float(after.rstrip("%")) - float(before.rstrip("%"))
    waited(panel, f"beside the pinned one: accuracy {difference:+.2f} points (95 %: ")
    assert panel.locator(".labkit-ghost > *").count() == 1
    panel.get_by_role("button", name="pin").click()
    panel.locator(".labkit-cards:not(.labkit-has-pinned)").wait_for()


def test_undo_scenes_and_play(panel):
    press(panel, "sparsity", "PageDown")
    press(panel, "bits", "ArrowLeft")
    panel.get_by_role("button", name="undo").click()
    panel.page.wait_for_function("root => root.dataset.alt.includes('5 bits')", arg=panel.element_handle())
    settle(panel)
    assert at(panel) == (0.7, 5)
    panel.get_by_label("scene", exact=True).select_option("rounded too far")
    panel.page.wait_for_function("root => root.dataset.alt.includes('1 bits')", arg=panel.element_handle())
    settle(panel)
    assert at(panel) == (0.0, 1)
    handle(panel, "bits").focus()
    panel.get_by_role("button", name="play").click()
    panel.page.wait_for_function("root => root.dataset.alt.includes('32 (float) bits')", arg=panel.element_handle())
    answered(panel)
    assert panel.get_by_role("button", name="play").count() == 1


def more(panel, entry):
    panel.locator("summary", has_text="more").click()
    panel.get_by_role("button", name=entry).click()


def test_what_is_saved_is_what_is_shown(panel):
    page = panel.page
    with page.expect_download() as svg:
        more(panel, "save SVG")
    text = svg.value.path().read_text()
    assert text.startswith("<svg")
    assert "var(" not in text
    with page.expect_download() as png:
        more(panel, "save PNG")
    assert png.value.path().read_bytes()[:4] == b"\x89PNG"
    with page.expect_download() as table:
        more(panel, "save CSV")
    rows = list(csv.DictReader(table.value.path().read_text().splitlines()))
    shown = float(card(panel, "accuracy")[0].rstrip("%")) / 100
    assert any(abs(float(row["y"]) - shown) < 6e-5 for row in rows if row["y"] not in ("", "nan"))


def test_every_control_can_be_explained(panel):
    assert not panel.locator(".labkit-help").first.is_visible()
    more(panel, "explain the controls")
    assert "fraction of the weights" in panel.locator(".labkit-help", has_text="weights").all_inner_texts()[0]
    more(panel, "explain the controls")


def test_the_page_is_spoken_to_once_a_move_has_settled(panel):
    """A screen reader hears one sentence, not every picture of a drag."""
    panel.evaluate("""root => {
      root.labkitSaid = 0;
      new MutationObserver(() => { root.labkitSaid += 1; })
        .observe(root.querySelector("[role=status]"), { childList: true, characterData: true, subtree: true });
    }""")
    for _ in range(8):
        handle(panel, "sparsity").press("ArrowLeft")
    settle(panel)
    assert panel.evaluate("root => root.labkitSaid") == 1
    assert card(panel, "accuracy")[0] in panel.locator("[role=status]").text_content()


def test_two_cells_with_the_same_panel_are_both_live(url, chrome, notebooks):
    cells = [nbformat.v4.new_code_cell("import labkit as lk\nlk.explore.overview()") for _ in range(2)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), notebooks / "two.ipynb")
    page, errors = lab.open_notebook(chrome, url, "two.ipynb")
    lab.run_all(page)
    page.locator("svg.labkit-svg").nth(1).wait_for()
    for i in (0, 1):
        panel = page.locator(".labkit-panel").nth(i)
        press(panel, "sparsity", *["ArrowRight"] * (i + 1))
        assert card(panel, "accuracy")[0] == expected(0.81 + 0.01 * i, 5)
    assert errors == []
    lab.close_notebook(page)


def test_after_the_kernel_was_restarted_the_panel_says_so(url, chrome, notebooks):
    with opened(url, chrome, notebooks, "restarted", "lk.explore.overview()") as panel:
        page = panel.page
        page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        page.get_by_text("| Idle").first.wait_for()
        panel.locator(".labkit-error", has_text="run this cell again").wait_for()


def test_what_was_shared_comes_back_with_the_address(url, chrome, notebooks):
    with opened(url, chrome, notebooks, "shared", "lk.explore.overview()") as panel:
        press(panel, "sparsity", "PageDown")
        page, said = panel.page, alt(panel)
        more(panel, "share")
        page.wait_for_function("() => location.hash.startsWith('#labkit:overview:')")
        address = page.evaluate("() => location.hash")
        panel.get_by_role("button", name="reset").click()
        page.wait_for_function("([root, alt]) => root.dataset.alt !== alt", arg=[panel.element_handle(), said])
        assert page.evaluate("() => location.hash") == address
        lab.run_all(page)
        again = lab.panel(page)
        page.wait_for_function("alt => document.querySelector('.labkit-panel').dataset.alt === alt", arg=said)
        assert alt(again) == said

"""What `make lab` shows first: the notebook, no file browser, no question about JupyterLab's news."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from benchmarks import lab

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.browser


@pytest.fixture
def address(tmp_path):
    """Where `make lab` serves."""
    if not (ROOT / ".venv/.lab").exists():
        pytest.skip("this environment was not made by make")
    port = lab.free_port()
    options = f"--no-browser --ServerApp.port={port} --IdentityProvider.token= --LabApp.expose_app_in_browser=True"
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            ["make", "lab", f"LAB_OPTIONS={options}"], cwd=ROOT, stdout=out, stderr=out, start_new_session=True
        )
        try:
            lab.wait_for(f"http://127.0.0.1:{port}/api", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_the_first_screen_is_the_first_notebook_and_nothing_else(chrome, address):
    page = chrome.new_page(viewport={"width": 1280, "height": 720})
    page.set_default_timeout(lab.PATIENCE)
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.get_by_text("| Idle").wait_for()
    page.wait_for_timeout(2_000)  # a question about news would be there by now
    assert page.get_by_role("strong").filter(has_text="Press Shift+Enter to run one cell").is_visible()
    assert page.evaluate("window.jupyterapp.shell.leftCollapsed")
    assert page.locator(".Toastify__toast").count() == 0
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.close()

"""A real JupyterLab with a real Chromium, for the browser tests and the slider benchmark."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, sync_playwright

SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, seen or not
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
PATIENCE = 180_000  # milliseconds that a page waits for an event: ends what hangs, and says nothing about speed
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip


def chromium() -> str | None:
    """The system's Chromium or Chrome, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def server(folder: Path, scratch: Path) -> Iterator[str]:
    """JupyterLab serving `folder` on a free port of this machine; its settings and runtime files go to `scratch`."""
    for name, value in SETTINGS.items():
        file = scratch / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))
    port = free_port()
    options = {"ServerApp.port": port, "ServerApp.port_retries": 0, "ServerApp.root_dir": folder,
               "IdentityProvider.token": "", "LabApp.expose_app_in_browser": True}  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    places = {f"JUPYTERLAB_{name}_DIR": str(scratch / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    places |= {"JUPYTER_RUNTIME_DIR": str(scratch / "runtime"), "OMP_WAIT_POLICY": "passive"}  # as `make lab` has it
    with (scratch / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | places, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/api", process, scratch / "server.log")
            yield url
        finally:
            process.terminate()
            process.wait(PATIENCE / 1000)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = PATIENCE / 1000) -> None:
    """Wait until a server answers; RuntimeError with the end of its log if it does not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not answer at {url}; its log ends: {log.read_text()[-2000:]}")


@contextmanager
def browser() -> Iterator[Browser]:
    """The system's Chromium, headless."""
    path = chromium()
    if path is None:
        raise RuntimeError("no Chromium found; install the package chromium, or Google Chrome")
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield chrome
        chrome.close()


def open_notebook(
    chrome: Browser, url: str, name: str, width: int = 1280, height: int = 1000, density: float = 1
) -> tuple[Page, list[str]]:
    """A page with the notebook `name` open and its kernel ready, and the list its console errors go to."""
    page = chrome.new_page(viewport={"width": width, "height": height}, device_scale_factor=density)
    page.set_default_timeout(PATIENCE)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{url}/doc/tree/{name}?reset")
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.get_by_text("| Idle").wait_for()  # of the status bar: only now is the kernel connected
    return page, errors


def run_all(page: Page) -> None:
    """Run every cell and wait until the kernel is idle again."""
    page.evaluate("() => void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')]"
        ".every(p => /^\\[\\d+\\]:$/.test(p.textContent.trim()))"
    )


def panel(page: Page) -> Locator:
    """The panel of the notebook, once it shows a picture."""
    found = page.locator(".labkit-panel").first
    found.locator("svg.labkit-svg").wait_for()
    return found


def close_notebook(page: Page) -> None:
    """Close the page and end its kernel: kernels that nobody uses keep their memory."""
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.close()

"""What the tests of the panels' machinery need: every panel closed after a test."""

import pytest

from labkit.live.panel import Panel


@pytest.fixture(autouse=True)
def closed_panels():
    """No panel outlives its test."""
    yield
    for panel in Panel._open.values():
        panel.close_all()
    Panel._open.clear()

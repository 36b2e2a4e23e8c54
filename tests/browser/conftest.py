"""A real headless Chromium, and pictures of what it saw."""

import os
import re
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
PICTURES = Path(__file__).resolve().parents[2] / "test-output" / "screenshots"


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM} (Debian: chromium)")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox"]
        )
        yield started
        started.close()


@pytest.fixture
def open_page(browser, request):
    """Open pages, each with cookies of its own; nothing may be wrong on any of them."""
    contexts, complaints = [], []

    def open_page(width: int = 1280, height: int = 800):
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                # A refused form is answered 409 or 422, which Chromium calls an error.
                if message.type == "error"
                and "Failed to load resource" not in message.text
                else None
            ),
        )
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def picture(request):
    """Keep a picture of a page as output of the test."""

    def picture(page, name: str) -> None:
        folder = Path(os.environ.get("SCREENSHOTS") or PICTURES)
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(
            path=folder / f"{re.sub(r'[^a-z0-9-]', '-', name)}.png", full_page=True
        )

    return picture


@pytest.fixture
def no_serious_findings():
    """Hold a page against axe-core's rules; minor ones are allowed."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def check(page) -> None:
        found = axe.run(page).response["violations"]
        serious = [
            (one["id"], [node["target"] for node in one["nodes"]][:3])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == []

    return check

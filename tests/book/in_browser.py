"""A page in a real browser, offline: what it asks for from outside, or lacks, is an error."""

import contextlib
import functools
import http.server
import shutil
import threading
import time

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium on this machine (see .ci/run for Debian)"
)
FLAGS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder):
    """Serve a folder on this machine; yield its address."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextlib.contextmanager
def opened(browser, base, name, **options):
    """Open a page below an address; in the end, no request may have left and no script have failed.

    Args:
        browser: The browser.
        base: The address of the folder that the page may load from.
        name: The page.
        options: Of the browser's context, such as ``color_scheme``.
    """
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
    context.set_default_timeout(60_000)  # a busy machine is slow, not wrong
    left, missing, errors = [], [], []

    def watch(route):
        address = route.request.url
        if address.startswith((f"{base}/", "data:", "blob:")):
            route.continue_()
        else:
            left.append(address)
            route.abort()

    context.route("**/*", watch)
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: said.type == "error" and errors.append(said.text))
    page.on("response", lambda answer: answer.ok or missing.append(answer.url))
    page.goto(f"{base}/{name}")
    opened = time.monotonic()
    try:
        yield page
        # A second for what scripts ask for once the page is there.
        page.wait_for_timeout(max(0, 1000 * (opened + 1 - time.monotonic())))
    finally:
        context.close()
    assert not left, "the pages need nothing from outside"
    assert not missing, "every file that the pages ask for is there"
    assert errors == [], "no script fails, and none complains"

"""The pages of one installation with read studies, as a browser reaches them.

Server, worklist and the courier to the archive run in threads of the test's process;
what arrives at the archive went over the network.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.settings import (
    DeliverySettings,
    DestinationSettings,
    ReviewSettings,
    Settings,
)
from dicom_node.delivery.courier import Courier
from dicom_node.delivery.destinations import sender_for
from dicom_node.periodic import PeriodicThread
from review.server import ReviewServer
from tests.read_studies import ReadStudies

PASSWORD = "four words to remember"


class Site:
    """A running site; `page` of a browser goes to `address`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.studies = ReadStudies(settings)
        self.address = ""
        self.first_link: str | None = None
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._server = ReviewServer(settings)
        self._thread = threading.Thread(
            target=self._server.run, args=(self._stop, self._note), daemon=True
        )
        self._couriers = [self._courier(entry) for entry in settings.destinations]

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(20), "the pages did not start"

    def deliver(self) -> None:
        """Let what is due leave from now on."""
        for courier in self._couriers:
            courier.start()

    def stop(self) -> None:
        self._stop.set()
        for courier in self._couriers:
            courier.stop()
        self._thread.join(15)
        self.studies.close()

    def _courier(self, entry: DestinationSettings) -> PeriodicThread:
        courier = Courier(
            entry.name,
            sender_for(entry, self.settings),
            self.studies.database,
            self.studies.store,
            self.settings.delivery,
        )
        return PeriodicThread(
            entry.name, courier.deliver_due, on_crash=lambda _name, _error: None
        )

    def _note(self, address: str, first_link: str | None) -> None:
        self.address, self.first_link = address, first_link
        self._ready.set()


@contextmanager
def running_site(
    folder: Path, *, port: int | None = None, **review: Any
) -> Iterator[Site]:
    """Run a site; `port` is a C-STORE archive's that reports go to."""
    destinations = (
        (DestinationSettings(name="pacs", port=port, ae_title="STORESCP"),)
        if port
        else (DestinationSettings(name="pacs", port=1),)
    )
    site = Site(
        Settings(
            data_dir=folder,
            destinations=destinations,
            delivery=DeliverySettings(first_delay_s=0.1),
            review=ReviewSettings(port=0, **review),
        )
    )
    site.start()
    try:
        yield site
    finally:
        site.stop()


def first_account(page: Any, site: Site, login: str = "jdoe") -> None:
    """Make the first account by its link, which logs it in."""
    page.goto(site.first_link)
    fill_account(page, login, "Jane", "Doe")
    page.wait_for_url(f"{site.address}/")


def fill_account(page: Any, login: str, given: str, family: str) -> None:
    """Fill the form behind a one-time link."""
    page.fill("[name=login]", login)
    page.fill("[name=given_name]", given)
    page.fill("[name=family_name]", family)
    page.fill("[name=password]", PASSWORD)
    page.fill("[name=again]", PASSWORD)
    page.click("button.primary")


def another_reader(page: Any, site: Site, other: Any) -> None:
    """Invite a second reader from `page`, who makes an account in `other`."""
    page.goto(f"{site.address}/accounts")
    page.select_option("form[action='/accounts/invite'] select", "reader")
    page.click("form[action='/accounts/invite'] button")
    other.goto(page.locator(".note code").inner_text())
    fill_account(other, "rroe", "Richard", "Roe")
    other.wait_for_url(f"{site.address}/")


def in_list(page: Any, site: Site, words: str) -> Any:
    """Wait until the list shows a row with these words, and return it."""
    deadline = time.monotonic() + 20
    row = page.locator("tr[data-href]", has_text=words)
    while row.count() == 0 and time.monotonic() < deadline:
        page.goto(f"{site.address}/")
    return row.first

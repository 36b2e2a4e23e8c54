"""The pages in a real browser: from the first link to a report in the archive."""

import time

import pytest
from pydicom import dcmread

from core.database import jobs
from core.lifecycle import JobState
from core.settings import Priority
from tests.browser.site import (
    PASSWORD,
    another_reader,
    first_account,
    in_list,
    running_site,
)
from tests.peers import DcmtkArchive
from tests.read_studies import not_analysed, pneumonia
from tests.validators import PIXELMED_CLASSPATH, dciodvfy, dsrdump, pixelmed

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

JAPANESE = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.fixture
def site(tmp_path):
    with running_site(tmp_path / "data") as running:
        yield running


def named(site, seed, name, *, probability=0.91, outlined=False, **attributes):
    """Read a study of a patient of this name."""
    image = site.studies.image(
        seed, SpecificCharacterSet="ISO_IR 192", PatientName=name, **attributes
    )
    uid = site.studies.receive(image, at=time.time() - 600)
    job_id = site.studies.queue(uid)
    reading = pneumonia(image, probability, outlined=outlined)
    site.studies.report(job_id, image, reading)
    return uid


def open_study(page, site, words):
    row = in_list(page, site, words)
    row.locator("a").first.click()
    page.wait_for_selector(".facts h1")


def shown_width(page):
    """Wait for the picture of a study; 0 if there is none."""
    page.wait_for_load_state("load")
    return page.evaluate("document.querySelector('.picture img').naturalWidth")


def test_from_the_first_link_to_a_verified_report_in_the_archive(
    tmp_path, open_page, picture, no_serious_findings
):
    with (
        DcmtkArchive(tmp_path / "archive") as archive,
        running_site(tmp_path / "data", port=archive.port, undo_window_s=1.5) as site,
    ):
        site.deliver()
        # Without an outline: PixelMed's known defect at exactly one (docs/report.md).
        named(site, "one", "Doe^Jane")
        page = open_page()
        page.goto(site.address)
        assert page.url.endswith("/login")
        picture(page, "login-nobody")

        first_account(page, site)
        open_study(page, site, "Doe, Jane")
        assert page.locator(".banner").inner_text() == "AI result, not verified"
        assert "91 %" in page.locator(".findings").inner_text()
        assert shown_width(page) > 0
        no_serious_findings(page)
        picture(page, "study-unreviewed")
        page.keyboard.press("a")
        page.wait_for_selector(".decision.d-accepted")
        picture(page, "study-undo")

        page.wait_for_selector(".f-stored")
        assert "stored at pacs" in page.locator(".fate").inner_text()
        picture(page, "study-stored")
        (path,) = archive.files()
        document = dcmread(path)
        assert document.VerificationFlag == "VERIFIED"
        assert document.VerifyingObserverSequence[0].VerifyingObserverName == "Doe^Jane"
        assert dciodvfy(path) == []
        assert dsrdump(path) == []
        if PIXELMED_CLASSPATH.exists():
            assert pixelmed([path])[path] == []


def test_amend_by_keys_and_form(site, open_page, picture, no_serious_findings):
    uid = named(site, "one", "Doe^Jane", outlined=True)
    page = open_page()
    first_account(page, site)
    open_study(page, site, "Doe, Jane")

    page.keyboard.press("m")
    page.keyboard.press("ArrowRight")
    page.select_option("[name='site:pneumonia']", label="Lower lobe of lung")
    page.fill("[name='comment:pneumonia']", "Old scar.")
    no_serious_findings(page)
    picture(page, "study-amend")
    page.click("text=Verify my answer")
    page.wait_for_selector(".decision.d-amended")
    assert "absent, Lower lobe of lung" in page.locator(".answers").inner_text()
    picture(page, "study-amended")

    (finding,) = site.studies.decision(uid).findings
    assert finding.presence.value == "absent"
    assert finding.site is not None
    assert finding.site.meaning == "Lower lobe of lung"


def test_reject_takes_a_reason(site, open_page, picture):
    uid = named(site, "one", "Doe^Jane")
    page = open_page()
    first_account(page, site)
    open_study(page, site, "Doe, Jane")

    page.keyboard.press("r")
    page.click("button:has-text('Reject the result')")
    assert "for a reason" in page.locator(".error").inner_text()
    page.keyboard.press("r")
    page.select_option("#main form.panel:visible [name=reason]", "image-quality")
    page.click("button:has-text('Reject the result')")
    page.wait_for_selector(".decision.d-rejected")
    picture(page, "study-rejected")

    reason = site.studies.decision(uid).reason
    assert reason is not None
    assert reason.value == "image-quality"


def test_undo_by_key_within_the_window(site, open_page):
    uid = named(site, "one", "Doe^Jane")
    page = open_page()
    first_account(page, site)
    open_study(page, site, "Doe, Jane")
    page.keyboard.press("a")
    page.wait_for_selector("[data-key=u]")

    page.keyboard.press("u")
    page.wait_for_selector(".banner.b-open")

    assert [kind for kind, _ in site.studies.documents(uid)] == ["reading"]


def test_the_second_of_two_readers_sees_the_firsts_decision(site, open_page, picture):
    uid = named(site, "one", "Doe^Jane")
    jane, richard = open_page(), open_page()
    first_account(jane, site)
    another_reader(jane, site, richard)
    open_study(jane, site, "Doe, Jane")
    open_study(richard, site, "Doe, Jane")
    jane.keyboard.press("a")
    jane.wait_for_selector(".decision.d-accepted")

    richard.keyboard.press("a")
    richard.wait_for_selector(".error")

    assert "jdoe has accepted" in richard.locator(".error").inner_text()
    assert "Jane Doe" in richard.locator(".decision").inner_text()
    picture(richard, "study-second-reader")
    assert len(site.studies.documents(uid)) == 2


def test_a_failed_reading_is_retried_from_the_queue(
    site, open_page, picture, no_serious_findings
):
    image = site.studies.image("one")
    job_id = site.studies.queue(site.studies.receive(image))
    with site.studies.database.write() as connection:
        jobs.fail(
            connection, job_id, lease_token=None, reason="memory",
            explanation="needed more than it may use", report_failure=False,
        )  # fmt: skip
    page = open_page()
    first_account(page, site)
    page.goto(f"{site.address}/queue")
    assert "needed more than it may use" in page.locator("#main").inner_text()
    no_serious_findings(page)
    picture(page, "queue-failed")

    page.click("button:has-text('Retry')")
    page.wait_for_selector("text=Nothing has failed.")

    with site.studies.database.read() as connection:
        row = jobs.job_by_id(connection, job_id)
    assert row is not None
    assert row.state is JobState.QUEUED


def test_the_queue_keeps_itself_up_to_date(site, open_page):
    page = open_page()
    first_account(page, site)
    page.goto(f"{site.address}/queue")
    page.wait_for_selector("text=Nothing waits to be read.")

    site.studies.queue(site.studies.receive(site.studies.image("one")))

    page.wait_for_selector("text=lung-pneumonia-paediatric")


def test_the_worklist_keeps_itself_up_to_date_and_shows_what_was_not_analysed(
    site, open_page, picture, no_serious_findings
):
    page = open_page()
    first_account(page, site)
    page.wait_for_selector("text=No study yet")
    no_serious_findings(page)
    picture(page, "worklist-empty")

    named(site, "one", "Doe^Jane", probability=0.03)
    image = site.studies.image("two", PatientName="Adult^Old")
    uid = site.studies.receive(image)
    job_id = site.studies.queue(uid, priority=Priority.STAT)
    site.studies.report(job_id, image, not_analysed(image))

    page.wait_for_selector("text=Adult, Old")
    assert "age-out-of-range" in page.locator("#live").inner_text()
    assert "Pneumonia absent" in page.locator("#live").inner_text()
    no_serious_findings(page)
    picture(page, "worklist")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        (JAPANESE, "Yamada, Tarou (山田, 太郎; やまだ, たろう)"),
    ],
)
def test_a_name_is_text_whatever_it_holds(site, open_page, name, shown):
    named(site, "one", name)
    page = open_page()
    first_account(page, site)

    open_study(page, site, shown)

    assert page.locator("h1").inner_text() == shown
    assert page.locator("script:not([src])").count() == 0


def test_a_search_finds_by_name_and_leaves_no_name_in_a_url(site, open_page):
    named(site, "one", "Doe^Jane")
    named(site, "two", JAPANESE)
    page = open_page()
    visited = []
    page.on("request", lambda request: visited.append(request.url))
    first_account(page, site)
    in_list(page, site, "Yamada")

    page.keyboard.press("/")
    page.keyboard.type("太郎")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=1 study")

    assert "Doe, Jane" not in page.locator("#live").inner_text()
    assert not [url for url in visited if "%E5%A4%AA" in url or "太郎" in url]


def test_who_is_logged_out_sees_nothing_and_a_wrong_password_says_little(
    site, open_page
):
    uid = named(site, "one", "Doe^Jane")
    page = open_page()
    first_account(page, site)
    page.click("text=Log out")
    page.wait_for_url("**/login")

    page.goto(f"{site.address}/studies/{uid}")
    assert page.url.endswith("/login")
    page.fill("[name=login]", "jdoe")
    page.fill("[name=password]", PASSWORD + "?")
    page.click("button.primary")
    page.wait_for_selector(".error")

    assert page.locator(".error").inner_text() == "Login or password is wrong."


def test_every_page_has_no_serious_finding_of_accessibility_and_fits_a_tablet(
    site, open_page, picture, no_serious_findings
):
    uid = named(site, "one", "Doe^Jane", outlined=True)
    page = open_page(width=820, height=1180)
    first_account(page, site)
    in_list(page, site, "Doe, Jane")
    places = ("/", f"/studies/{uid}", "/queue", "/models", "/accounts", "/audit",
              "/models/lung-pneumonia-paediatric")  # fmt: skip

    for place in places:
        page.goto(site.address + place)
        no_serious_findings(page)
        picture(page, f"tablet{place.replace(uid, 'study').replace('/', '-')}")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 820, f"{place} is {width} pixels wide"


def test_a_withdrawal_is_confirmed_and_hides_the_result(site, open_page):
    uid = named(site, "one", "Doe^Jane")
    page = open_page()
    first_account(page, site)
    open_study(page, site, "Doe, Jane")

    page.click("summary:has-text('Withdraw')")
    form = page.locator("details.withdraw form")
    form.locator("[name=reason]").select_option("wrong-patient")
    form.locator("[name=sure]").check()
    form.locator("button").click()
    page.wait_for_selector(".decision.d-withdrawn")

    kinds = [kind for kind, _ in site.studies.documents(uid)]
    assert kinds == ["reading", "withdrawal 1"]
    assert page.locator("[data-key=a]").count() == 0


def test_back_and_forth_between_list_and_study_by_keys(site, open_page):
    named(site, "one", "Doe^Jane")
    named(site, "two", "Roe^Richard", probability=0.8)
    page = open_page()
    first_account(page, site)
    in_list(page, site, "Roe, Richard")

    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector(".facts h1")
    first = page.locator("h1").inner_text()
    page.keyboard.press("n")
    page.wait_for_selector(f"h1:not(:text-is('{first}'))")
    page.keyboard.press("w")

    page.wait_for_url(f"{site.address}/")

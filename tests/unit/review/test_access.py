"""Nobody comes in without an account, and nothing changes by a forged request."""

import re

import pytest
from starlette.testclient import TestClient

from core.database import accounts, audit
from core.database.accounts import NewAccount, Role
from core.errors import InvalidAccount
from core.settings import ReviewSettings
from review.access.gate import FORM_COOKIE, SESSION_COOKIE
from review.access.limits import AttemptLimit
from review.access.passwords import check_new_password, hash_password, is_password
from review.application import review_application
from review.server import first_link
from review.worklist_writer import WorklistWriter

PASSWORD = "four words to remember"


class Visitor:
    """A browser of one person, as far as the server sees it."""

    def __init__(self, application):
        self.client = TestClient(
            application, base_url="http://127.0.0.1:8480", follow_redirects=False
        )

    def get(self, path, **options):
        return self.client.get(path, **options)

    def token(self, path):
        found = re.search(r'name="csrf_token" value="([^"]+)"', self.get(path).text)
        return found[1] if found else ""

    def post(self, path, form=None, *, page=None, **options):
        """Send the form that stands on `page` (the very one by default)."""
        values = {"csrf_token": self.token(page or path), **(form or {})}
        return self.client.post(path, data=values, **options)

    def log_in(self, login="jdoe", password=PASSWORD):
        return self.post("/login", {"login": login, "password": password})


@pytest.fixture
def application(settings, installation):
    made = review_application(settings, installation.database)
    yield made
    made.state.office.previews.close()


@pytest.fixture
def visitor(application):
    return Visitor(application)


@pytest.fixture
def person(installation, application):
    """Make an account and log it in."""

    def person(login, role):
        with installation.database.write() as connection:
            accounts.add_account(
                connection, NewAccount(login, "Doe", "Jane", role, HASH)
            )
        made = Visitor(application)
        assert made.log_in(login).status_code == 303
        return made

    return person


HASH = hash_password(PASSWORD)


def account_form(**changes):
    return {
        "login": "jdoe",
        "family_name": "Doe",
        "given_name": "Jane",
        "password": PASSWORD,
        "again": PASSWORD,
        **changes,
    }


@pytest.mark.parametrize(
    "path",
    ["/", "/worklist/rows", "/studies/1.2.3", "/queue", "/models", "/accounts",
     "/audit", "/studies/1.2.3/instances/1.2.4/preview"],
)  # fmt: skip
def test_without_a_session_every_page_leads_to_the_log_in(visitor, path):
    answer = visitor.get(path)

    assert answer.status_code == 303
    assert answer.headers["location"] == "/login"


def test_the_first_link_makes_one_administrator_once(visitor, installation, settings):
    link = first_link(installation.database, settings)
    made = visitor.post(link, account_form())
    again = visitor.client.get(link)

    assert made.status_code == 303
    assert visitor.get("/accounts").status_code == 200
    assert again.status_code == 410
    assert first_link(installation.database, settings) is None


def test_a_new_first_link_voids_the_one_before(visitor, installation, settings):
    old = first_link(installation.database, settings)
    first_link(installation.database, settings)

    assert visitor.get(old).status_code == 410


def test_a_link_is_too_old_after_its_time(visitor, installation, settings, monkeypatch):
    link = first_link(installation.database, settings)
    now = accounts.time.time()
    monkeypatch.setattr(accounts.time, "time", lambda: now + 86401)

    assert visitor.get(link).status_code == 410


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "short", "again": "short"}, "12 to 256"),
        ({"again": "another one entirely"}, "differ"),
        ({"password": "jdoe and some more", "again": "jdoe and some more"}, "login"),
        ({"family_name": ""}, "family name"),
        ({"family_name": "Doe^Jane"}, "separate"),
        ({"login": "j doe"}, "letters"),
    ],
)
def test_an_account_that_cannot_be_says_why_and_leaves_the_link_open(
    visitor, installation, settings, changes, words
):
    link = first_link(installation.database, settings)

    answer = visitor.post(link, account_form(**changes))

    assert answer.status_code == 422
    assert words in answer.text
    assert visitor.get(link).status_code == 200


def test_a_wrong_password_and_an_unknown_login_get_the_same_answer(person, visitor):
    person("jdoe", Role.READER)

    wrong = visitor.log_in("jdoe", "not this one at all")
    unknown = visitor.log_in("nobody", "not this one at all")

    assert wrong.status_code == unknown.status_code == 401
    strip = re.compile(r'value="[^"]*"')
    assert strip.sub("", wrong.text) == strip.sub("", unknown.text)


def test_guessing_has_to_wait_even_with_the_right_password(person, visitor):
    person("jdoe", Role.READER)
    for number in range(10):
        assert visitor.log_in("jdoe", f"guess number {number}").status_code == 401

    assert visitor.log_in("jdoe").status_code == 429


def test_the_limit_forgets_after_five_minutes():
    now = [0.0]
    limit = AttemptLimit(2, lambda: now[0])
    limit.failed("a")
    limit.failed("a")

    assert limit.waits("a")
    now[0] = 301
    assert not limit.waits("a")


def test_who_is_shut_out_is_out_at_once_and_the_last_administrator_stays(
    person, installation
):
    admin, reader = person("root", Role.ADMIN), person("rroe", Role.READER)
    assert reader.get("/").status_code == 200

    admin.post("/accounts/rroe/disable", page="/accounts")
    last = admin.post("/accounts/root/disable", page="/accounts")

    assert reader.get("/").status_code == 303
    assert reader.log_in("rroe").status_code == 401
    assert last.status_code == 422
    assert admin.get("/").status_code == 200


def test_a_session_ends_when_nobody_uses_it(person, monkeypatch):
    reader = person("rroe", Role.READER)
    now = accounts.time.time()
    monkeypatch.setattr(accounts.time, "time", lambda: now + 3601)

    assert reader.get("/").status_code == 303


def test_log_out_ends_the_session_on_the_server(person):
    reader = person("rroe", Role.READER)
    cookie = reader.client.cookies[SESSION_COOKIE]
    reader.post("/logout", page="/")
    reader.client.cookies.set(SESSION_COOKIE, cookie, domain="127.0.0.1")

    assert reader.get("/").status_code == 303


def test_cookies_are_out_of_reach_for_scripts_and_other_sites(visitor, person):
    person("jdoe", Role.READER)
    form = visitor.get("/login").headers["set-cookie"]
    session = visitor.log_in().headers.get_list("set-cookie")

    assert f"{FORM_COOKIE}=" in form
    for cookie in (form, *[one for one in session if SESSION_COOKIE in one]):
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie


def test_no_page_allows_inline_script_or_another_sites_frame(person):
    answer = person("jdoe", Role.READER).get("/")

    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert "<script>" not in answer.text
    assert " style=" not in answer.text
    assert not re.search(r"\son[a-z]+=", answer.text)


CHANGES = ("/", "/logout", "/queue/jobs/1/retry", "/accounts/invite",
           "/studies/1.2.3/results/1/accept")  # fmt: skip


@pytest.mark.parametrize("path", CHANGES)
def test_a_change_without_its_token_is_refused(person, path):
    admin = person("root", Role.ADMIN)

    assert admin.client.post(path, data={}).status_code == 403
    assert admin.client.post(path, data={"csrf_token": "x"}).status_code == 403


def test_a_change_from_another_site_is_refused_with_its_token_too(person):
    admin = person("root", Role.ADMIN)
    elsewhere = {"Origin": "http://evil.example"}
    cross = {"Sec-Fetch-Site": "cross-site"}

    for headers in (elsewhere, cross):
        answer = admin.post("/accounts/invite", page="/accounts", headers=headers)
        assert answer.status_code == 403


def test_a_form_that_is_too_large_is_refused_unread(person):
    reader = person("jdoe", Role.READER)

    answer = reader.client.post("/", data={"text": "x" * 70_000})

    assert answer.status_code == 413


def test_a_name_of_another_host_gets_no_answer(visitor):
    answer = visitor.get("/login", headers={"Host": "evil.example"})

    assert answer.status_code == 400


def test_the_hosts_of_a_site_can_be_named(settings, installation):
    review = ReviewSettings(hosts=("reads.clinic.example",))
    made = review_application(
        settings.model_copy(update={"review": review}), installation.database
    )
    visitor = Visitor(made)

    there = visitor.get("/login", headers={"Host": "reads.clinic.example"})

    assert there.status_code == 200
    assert visitor.get("/login").status_code == 400


@pytest.fixture
def study(installation):
    uid = installation.read("one")
    WorklistWriter(installation.database, installation.store).catch_up()
    return uid


def test_only_readers_decide_only_operators_change_the_queue_only_admins_see_accounts(
    person, study
):
    reader, operator = person("rroe", Role.READER), person("ops", Role.OPERATOR)
    accept = f"/studies/{study}/results/1/accept"

    assert operator.post(accept, {"version": "0"}, page="/").status_code == 403
    assert reader.post("/queue/jobs/1/retry", page="/").status_code == 403
    for page in ("/accounts", "/audit"):
        assert reader.get(page).status_code == 403
        assert operator.get(page).status_code == 403
    assert operator.post("/accounts/invite", page="/").status_code == 403
    assert reader.post(accept, {"version": "0"}, page="/").status_code == 303


def test_a_result_is_decided_on_only_under_its_own_study(person, study, installation):
    reader = person("rroe", Role.READER)
    other = installation.read("two")
    WorklistWriter(installation.database, installation.store).catch_up()

    answer = reader.post(f"/studies/{other}/results/1/accept", {"version": "0"},
                         page="/")  # fmt: skip

    assert answer.status_code == 422
    assert "of another study" in answer.text


def test_a_preview_is_of_its_own_study_only(person, study, installation):
    reader = person("rroe", Role.READER)
    other = installation.image("two")
    installation.receive(other)

    stolen = reader.get(f"/studies/{study}/instances/{other.SOPInstanceUID}/preview")

    assert stolen.status_code == 404


def test_views_and_acts_are_in_the_audit_trail_and_no_name_is(
    person, visitor, study, installation
):
    reader = person("rroe", Role.READER)
    reader.get(f"/studies/{study}")
    reader.post("/", {"text": "PHANTOM"}, page="/")
    reader.post(f"/studies/{study}/results/1/accept", {"version": "0"}, page="/")
    visitor.log_in("mistyped password", "x")

    with installation.database.read() as connection:
        rows = audit.entries(connection)
    assert {row.action for row in rows} >= {
        "log-in", "log-in refused", "view worklist", "view study", "accepted",
    }  # fmt: skip
    assert not [row for row in rows if "PHANTOM" in repr(row)]
    assert not [row for row in rows if "mistyped" in repr(row)]


def test_a_password_is_kept_as_a_salted_hash_and_nobody_has_none():
    assert HASH.startswith("$argon2id$")
    assert hash_password(PASSWORD) != HASH
    assert is_password(PASSWORD, HASH)
    assert not is_password("another", HASH)
    assert not is_password("nobody has this password", None)


def test_a_password_of_one_letter_is_refused():
    with pytest.raises(InvalidAccount, match="few characters"):
        check_new_password("aaaaaaaaaaaaaaaa", "jdoe")

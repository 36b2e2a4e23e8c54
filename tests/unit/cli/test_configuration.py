import json
from pathlib import Path

import pytest

from cli.configuration import described_settings, settings_page

ROOT = Path(__file__).resolve().parents[3]
# Numbers that name something instead of measuring it.
NO_MEASURE = {"port", "series_number"}
SETTINGS = {one.name: one for one in described_settings()}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_described(name):
    assert len(SETTINGS[name].description) > 15


@pytest.mark.parametrize("name", [n for n, one in SETTINGS.items() if one.numeric])
def test_every_number_has_a_unit(name):
    assert SETTINGS[name].unit or name.rsplit(".", 1)[-1] in NO_MEASURE


def test_the_page_of_settings_is_up_to_date():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")

    assert page == settings_page(), (
        "run: secondread config --markdown > docs/settings.md"
    )


def test_the_page_names_every_setting():
    page = settings_page()

    assert [name for name in SETTINGS if f"| `{name}` |" not in page] == []


def test_config_tells_value_unit_and_source(secondread, data_dir, monkeypatch):
    data_dir.mkdir()
    (data_dir / "secondread.toml").write_text("[assembly]\nquiet_time_s = 3\n")
    monkeypatch.setenv("SECONDREAD_NODE__PORT", "11999")

    rows = json.loads(secondread("config", "--json").stdout)

    by_name = {row["name"]: row for row in rows}
    assert by_name["assembly.quiet_time_s"] == {
        "name": "assembly.quiet_time_s",
        "value": 3.0,
        "unit": "seconds",
        "source": "file",
    }
    assert by_name["node.port"]["source"] == "environment"
    assert by_name["node.ae_title"]["source"] == "default"


def test_config_changed_leaves_defaults_out(secondread, monkeypatch):
    monkeypatch.setenv("SECONDREAD_NODE__PORT", "11999")

    rows = json.loads(secondread("config", "--changed", "--json").stdout)

    assert {row["name"] for row in rows} == {"data_dir", "node.port"}


def test_config_hides_passwords_of_urls(secondread, monkeypatch):
    monkeypatch.setenv("SECONDREAD_QUEUE__BROKER_URL", "redis://me:secret@host:6379/0")

    result = secondread("config")

    assert "secret" not in result.stdout
    assert "redis://me:***@host:6379/0" in result.stdout


def test_config_says_markdown_on_request(secondread):
    assert secondread("config", "--markdown").stdout == settings_page()

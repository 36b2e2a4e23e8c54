from pathlib import Path

import pytest

from core.errors import InvalidSettings
from core.settings import Settings, load_settings, setting_origins


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    monkeypatch.delenv("SECONDREAD_DATA_DIR", raising=False)


def write(directory: Path, text: str) -> None:
    (directory / "secondread.toml").write_text(text)


def test_environment_comes_before_the_file_and_the_file_before_the_default(
    tmp_path, monkeypatch
):
    write(tmp_path, '[node]\nport = 1\nae_title = "FROM_FILE"\n')
    monkeypatch.setenv("SECONDREAD_NODE__PORT", "2")

    settings = load_settings(tmp_path)

    assert settings.node.port == 2
    assert settings.node.ae_title == "FROM_FILE"
    assert settings.node.maximum_associations == 64
    assert setting_origins(tmp_path) == {
        "node.port": "environment",
        "node.ae_title": "file",
    }


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[node]\nprot = 1\n", "node.prot"),
        ("[nod]\nport = 1\n", "nod"),
        ("[node]\nport = 70000\n", "node.port"),
        ('[node]\nae_title = "A_TITLE_THAT_IS_TOO_LONG"\n', "AE title"),
        ('[node]\nae_title = "A\\\\B"\n', "AE title"),
        ("[assembly]\nquiet_time_s = 0\n", "assembly.quiet_time_s"),
        ('[[destinations]]\nname = "p"\nkind = "stow"\n', "needs `url`"),
        ('[[rules]]\nname = "r"\ndestinations = ["nowhere"]\n', "nowhere"),
        ('[[rules]]\nname = "r"\n[[rules]]\nname = "r"\n', "same name: r"),
        ("[node\n", "not valid TOML"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_name(tmp_path, text, named):
    write(tmp_path, text)

    with pytest.raises(InvalidSettings, match=named):
        load_settings(tmp_path)


def test_an_unknown_name_in_the_environment_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SECONDREAD_NODES__PORT", "2")

    with pytest.raises(InvalidSettings, match="SECONDREAD_NODES__PORT"):
        load_settings(tmp_path)


def test_the_data_directory_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SECONDREAD_DATA_DIR", str(tmp_path / "here"))

    assert load_settings().data_dir == tmp_path / "here"


def test_the_node_listens_to_this_machine_only_until_callers_are_allowed(tmp_path):
    closed = Settings(data_dir=tmp_path)
    write(tmp_path, '[node]\nallowed_callers = ["CT1@10.0.0.0/8"]\n')

    assert closed.bind_address == "127.0.0.1"
    assert load_settings(tmp_path).bind_address == "0.0.0.0"


def test_a_deep_data_directory_gets_a_broker_socket_the_kernel_can_bind(tmp_path):
    deep = tmp_path.joinpath(*["a" * 40] * 4)

    assert len(str(Settings(data_dir=deep).broker_socket)) < 108

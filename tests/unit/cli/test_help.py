import subprocess
import sys
from pathlib import Path

import pytest
import typer

from cli import main as entry
from cli.exit_codes import exit_code_of
from cli.main import app
from core import errors

ROOT = Path(__file__).resolve().parents[3]
HEAVY = (
    *("tensorflow", "keras", "highdicom", "pynetdicom", "celery", "kombu", "cv2"),
    *("alembic", "numpy", "pydicom", "httpx", "h5py", "structlog", "redis"),
    "sqlalchemy.dialects.postgresql",
)
# typer itself asks pydantic to check arguments, but `--help` alone has none.
FOR_ARGUMENTS = ("pydantic", "importlib.metadata", "email.message")
FOR_WORK = ("pydantic_settings", "sqlalchemy", "sqlite3", "core.settings")
# A list of studies prints no help.
FOR_HELP = ("typer.rich_utils", "markdown_it", "pygments")
# click's commands behind typer's application
GROUP = typer.main.get_command(app)


def commands() -> dict[str, object]:
    found = {}
    for name, command in GROUP.commands.items():
        below = getattr(command, "commands", None)
        if below is None:
            found[name] = command
        else:
            found |= {f"{name} {under}": inner for under, inner in below.items()}
    return found


ALL = commands()


def option_names(name: str) -> set[str]:
    return {option for one in ALL[name].params for option in one.opts}


def test_the_commands_of_the_readme_are_there():
    asked = (
        "demo up node worker send echo studies show jobs retry dismiss forget config "
        "doctor "
        "licences"
    )

    assert set(asked.split()) <= set(ALL)
    assert {"rules test", "models list", "models show", "models verify"} <= set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_every_command_explains_itself_with_an_example(name):
    text = ALL[name].help

    assert "Example: `" in text
    example = text.split("Example:")[1]
    assert f"secondread {name}" in example


@pytest.mark.parametrize("name", sorted(set(ALL) - {"licences"}))
def test_every_command_can_be_pointed_at_an_installation(name):
    assert "--data-dir" in option_names(name)


@pytest.mark.parametrize(
    "name", sorted(set(ALL) - {"up", "node", "worker", "review serve"})
)
def test_every_command_that_prints_data_prints_it_as_json(name):
    assert "--json" in option_names(name)


@pytest.mark.parametrize("name", ALL)
def test_every_option_is_described(name):
    undescribed = [one.name for one in ALL[name].params if not one.help]

    assert [name for name in undescribed if name not in {"help", "file"}] == []


@pytest.mark.parametrize(
    ("arguments", "unwanted"),
    [
        (["--help"], (*HEAVY, *FOR_WORK, *FOR_ARGUMENTS)),
        (["up", "--help"], (*HEAVY, *FOR_WORK)),
        (["studies"], (*HEAVY, *FOR_HELP)),
        (["--version"], (*HEAVY, *FOR_WORK, *FOR_HELP)),
    ],
    ids=["help", "help of a command", "studies", "version"],
)
def test_what_must_be_quick_imports_nothing_heavy(arguments, unwanted, tmp_path):
    code = (
        "import sys; from cli.main import main; sys.argv[0] = 'secondread'; main(); "
        f"print([m for m in {unwanted!r} if m in sys.modules], file=sys.stderr)"
    )

    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={"SECONDREAD_DATA_DIR": str(tmp_path), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stderr.splitlines()[-1] == "[]"


def test_studies_of_a_filled_index_imports_nothing_heavy(index, data_dir):
    index.fail("1.2.1")
    unwanted = (*HEAVY, *FOR_HELP)
    code = (
        "import sys; from cli.main import main; main(); "
        f"print([m for m in {unwanted!r} if m in sys.modules], file=sys.stderr)"
    )

    result = subprocess.run(
        [sys.executable, "-c", code, "studies"],
        cwd=ROOT,
        env={"SECONDREAD_DATA_DIR": str(data_dir), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "1.2.1" in result.stdout
    assert result.stderr.splitlines()[-1] == "[]"


def test_a_node_takes_associations_before_queue_and_models_are_imported():
    unwanted = (
        *("celery", "kombu", "redis", "alembic", "h5py", "tensorflow", "keras"),
        *("cv2", "imagecodecs", "highdicom", "httpx", "models"),
        "sqlalchemy.dialects.postgresql",
    )
    code = (
        "import sys, cli.service, cli.installation, dicom_node.node; "
        f"print([name for name in {unwanted!r} if name in sys.modules])"
    )

    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.OperatorError("x"), 1),
        (errors.InvalidBundle("x"), 1),
        (errors.InternalError("x"), 1),
        (errors.InvalidSettings("x"), 2),
        (errors.BrokerUnavailable("x"), 3),
        (errors.DestinationUnavailable("x"), 3),
    ],
)
def test_each_kind_of_failure_has_its_exit_status(error, status):
    assert exit_code_of(error) == status


def test_a_wrong_setting_ends_with_2_and_a_sentence(in_a_process, data_dir):
    data_dir.mkdir()
    (data_dir / "secondread.toml").write_text("[node]\nport = 'eleven'\n")

    result = in_a_process("config")

    assert result.returncode == 2
    assert "node.port" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_argument_ends_with_2(in_a_process):
    result = in_a_process("echo", "--to", "nowhere")

    assert result.returncode == 2
    assert "HOST:PORT" in result.stderr


def test_a_bug_is_told_without_a_traceback_and_without_its_text(monkeypatch, capsys):
    def broken(**_arguments: object) -> None:
        raise KeyError("DOE^JOHN")

    monkeypatch.setattr(entry, "app", broken)

    status = entry.main()

    told = capsys.readouterr().err
    assert status == 1
    assert "unexpected KeyError at test_help.py:" in told
    assert "DOE" not in told


def test_debug_shows_where_an_error_arose(monkeypatch):
    def broken(**_arguments: object) -> None:
        raise errors.OperatorError("no")

    monkeypatch.setattr(entry, "app", broken)
    monkeypatch.setattr(sys, "argv", ["secondread", "--debug", "studies"])

    with pytest.raises(errors.OperatorError):
        entry.main()

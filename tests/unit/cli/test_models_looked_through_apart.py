"""What a node learns from a child process at its start, and what it does not keep."""

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from cli.installation import looking_through_models
from core.database.engine import open_database
from core.errors import StoreUnavailable
from core.settings import Settings

ROOT = Path(__file__).resolve().parents[3]


def test_models_are_told_and_the_index_is_up_to_date_without_keeping_their_tools(
    tmp_path: Path,
) -> None:
    code = """
import sys
from pathlib import Path
from cli.installation import looking_through_models
from core.settings import Settings

settings = Settings(data_dir=Path(sys.argv[1]))
with looking_through_models(settings) as models:
    pass
print(*(one.name for one in models.result().identities), models.result().refused)
from core.database.engine import open_database
open_database(settings).close()
print([name for name in ("alembic", "h5py", "models") if name in sys.modules])
"""

    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()

    assert said[0].endswith(" ()")
    assert len(said[0].split()) > 1, "the shipped model serves"
    assert said[1] == "[]"


def test_a_broken_package_is_told_with_its_reason(tmp_path: Path) -> None:
    package = tmp_path / "models" / "broken"
    package.mkdir(parents=True)
    (package / "bundle.toml").write_text("name = 1")

    with looking_through_models(Settings(data_dir=tmp_path)) as models:
        pass

    ((path, reason),) = models.result().refused
    assert path == str(package)
    assert reason


def test_an_index_that_cannot_be_used_is_raised_here(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    database = open_database(settings)
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()

    with looking_through_models(settings) as models:
        pass

    with pytest.raises(StoreUnavailable, match="newer than this release"):
        models.result()

"""One packed tiny bundle for all tests of this folder, and copies to spoil."""

import shutil
from pathlib import Path

import pytest

from models.bundle import Bundle
from models.runtime import LIGHT_RUNTIMES
from tests.tiny_bundle import KERAS_AND_NUMPY, make_tiny_bundle


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.filterwarnings(KERAS_AND_NUMPY))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def bundle_copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "copy"))


@pytest.fixture(params=sorted(LIGHT_RUNTIMES))
def light_runtime(request: pytest.FixtureRequest):
    """Each runtime that needs an extra, where the extra is installed."""
    modules = {"litert": "ai_edge_litert", "onnx": "onnxruntime"}
    pytest.importorskip(modules[request.param])
    return LIGHT_RUNTIMES[request.param]

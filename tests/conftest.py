"""What one test does to the process must not reach the next."""

import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """A command under test sets up the log on a stream that ends with the test."""
    root = logging.getLogger()
    handlers, level, show = list(root.handlers), root.level, warnings.showwarning
    yield
    structlog.reset_defaults()
    kept = [one for one in root.handlers if one in handlers]
    root.handlers = kept + [one for one in handlers if one not in kept]
    root.setLevel(level)
    warnings.showwarning = show

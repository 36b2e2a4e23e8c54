import io
import json

import pytest
import structlog

from core.log import configure_logging, get_log
from core.settings import LogSettings


@pytest.fixture
def lines():
    stream = io.StringIO()
    configure_logging(LogSettings(format="json"), "test", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_a_field_that_is_not_allowed_is_dropped_and_counted(lines):
    get_log().info("instance_stored", bytes=5, patient_name="MARKER^PATIENT")

    (line,) = lines()
    assert line["bytes"] == 5
    assert line["count_of_dropped_fields"] == 1
    assert "MARKER" not in json.dumps(line)


def test_a_line_break_in_a_peers_text_cannot_forge_a_line(lines):
    get_log().warning("refused", calling_ae_title="A\nB\x1b[2J")

    (line,) = lines()
    assert line["calling_ae_title"] == "A\\nB\\x1b[2J"

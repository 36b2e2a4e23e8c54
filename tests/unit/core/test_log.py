import io
import json
import logging
import threading

import pytest

from core.log import configure_logging, get_log
from core.settings import LogSettings


@pytest.fixture
def lines():
    stream = io.StringIO()
    configure_logging(LogSettings(format="json"), "test", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


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


def test_every_thread_says_which_component_it_belongs_to(lines):
    thread = threading.Thread(target=lambda: get_log().info("swept"))
    thread.start()
    thread.join()

    (line,) = lines()
    assert line["component"] == "test"


def test_what_a_library_says_about_a_data_set_is_not_written(lines):
    logging.getLogger("a_library.valuerep").warning("Invalid value: %s", "MARKER^NAME")
    logging.getLogger("celery.worker").error("broker gone\nTraceback")

    about_data, about_queue = lines()
    assert "MARKER" not in json.dumps(about_data)
    assert about_data["name"].startswith("a_library.valuerep")
    assert about_queue["reason"] == "broker gone"

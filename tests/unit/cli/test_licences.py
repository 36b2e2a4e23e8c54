import json

import pytest

from cli.licences import objection


@pytest.mark.parametrize(
    "licence",
    [
        "MIT",
        "BSD-3-Clause AND Zlib",
        "Apache Software License",
        "Mozilla Public License 2.0 (MPL 2.0)",
        "LGPL-3.0-or-later",
        "GNU Lesser General Public License v3 (LGPLv3)",
        "GPL-3.0-only OR MIT",
        "GPL-2.0-only WITH Classpath-exception-2.0",
    ],
)
def test_licences_that_go_with_apache_2_meet_no_objection(licence):
    assert objection(licence) == ""


@pytest.mark.parametrize(
    "licence",
    [
        "GPL-3.0-only",
        "GPL",
        "GPLv3",
        "AGPL-3.0-or-later",
        "GNU General Public License v3 (GPLv3)",
        "GNU Affero General Public License v3",
        "MIT AND GPL-2.0-only",
        "GPL-3.0-only OR AGPL-3.0-only",
    ],
)
def test_strong_copyleft_meets_an_objection(licence):
    assert "copyleft" in objection(licence)


def test_a_missing_licence_meets_an_objection():
    assert "look it up" in objection("")


def test_no_dependency_meets_an_objection(secondread):
    result = secondread("licences", "--json")

    found = {one["name"]: one for one in json.loads(result.stdout)}
    assert result.exit_code == 0
    assert {"pydicom", "celery", "redis", "tensorflow-cpu"} & set(found)
    assert "kombu" in found  # of celery, not ours: the closure is looked at
    assert not any(one["objection"] for one in found.values())

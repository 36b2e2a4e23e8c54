"""Figures get into the documentation by the command alone, and none is made up."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import all as everything
from benchmarks import report
from benchmarks.bars import BARS
from benchmarks.report import BEGIN, END, PAGE, page_with

EMPTY = f"# Page\n\n{BEGIN}\n{END}\n\nafter\n"


def figures(**bars: float) -> dict[str, Any]:
    return {
        "benchmark": "receive",
        "machine": {"processor": "a processor", "cores": "2", "time": "2026-11-25T01"},
        "versions": {"pydicom": "3.0.2", "storescp": "dcmtk: storescp v3.6.7 2022"},
        "bars": {
            key.replace("_", "-"): {"median": value, "min": 0.5, "max": 2, "count": 6}
            for key, value in bars.items()
        },
        "tables": [
            {
                "title": "mr: 2000 x MR",
                "plot": "per s",
                "rows": [
                    {
                        "receiver": "log | new",
                        "per s": {"median": 1500, "min": 1, "max": 2000, "count": 6},
                    }
                ],
            }
        ],
        "notes": ["The disk was shared."],
        "runs": {},
    }


def row_of(page: str, key: str) -> list[str]:
    (line,) = [line for line in page.splitlines() if f"| {BARS[key].name} |" in line]
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_measured_bars_stand_beside_floor_and_goal_and_others_stay_open() -> None:
    page = page_with(EMPTY, [figures(log_mr=0.8, rss_mf=130)])

    assert row_of(page, "log-mr") == [
        *(BARS["log-mr"].name, "0.7", "1", "0.80 [0.50-2.00]", "floor", "`receive`")
    ]
    assert row_of(page, "rss-mf")[2:5] == ["≤ 80 MB", "130 [0.50-2.00]", "NOT MET"]
    assert row_of(page, "tls")[3:5] == ["–", "–"]


def test_the_last_file_counts_and_the_rest_of_the_page_stays() -> None:
    once = page_with(EMPTY, [figures(log_mr=0.8)])

    again = page_with(once, [figures(log_mr=0.8), figures(log_mr=0.9)])

    assert row_of(again, "log-mr")[3] == "0.90 [0.50-2.00]"
    assert again.startswith("# Page\n")
    assert again.endswith("\nafter\n")
    assert page_with(once, [figures(log_mr=0.8)]) == once


def test_page_names_machine_versions_tables_and_notes() -> None:
    page = page_with(EMPTY, [figures()], drawn=["receive"])

    assert "2026-11-25" in page
    assert "storescp v3.6.7" in page
    assert "| log \\| new | 1500 [1.00-2000] |" in page
    assert "![receive](img/receive.svg)" in page
    assert "The disk was shared." in page


def test_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the marks"):
        page_with("# Page\n", [])


def test_the_page_of_this_project_can_be_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="needs the dependency group bench")
    page = tmp_path / "performance.md"
    page.write_text(PAGE.read_text())
    (tmp_path / "receive.json").write_text(json.dumps(figures(log_mr=0.8)))
    monkeypatch.setattr(
        "sys.argv",
        ["report", str(tmp_path / "receive.json"), "--page", str(page)],
    )

    report.main()

    assert row_of(page.read_text(), "log-mr")[4] == "floor"
    assert "log | new" in (tmp_path / "img" / "receive.svg").read_text()


def test_one_command_measures_every_bar() -> None:
    measured = {part.benchmark for part in everything.PARTS}

    assert {bar.benchmark for bar in BARS.values()} <= measured


def test_what_was_measured_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "memory.json").write_text("{}")
    monkeypatch.setattr("sys.argv", ["all", str(tmp_path), "--only", "memory"])
    started = []
    monkeypatch.setattr("subprocess.run", lambda *_, **__: started.append(1))

    status = everything.main()

    assert status == 0
    assert not started
    assert "memory.json is there" in capsys.readouterr().out


def test_a_bar_counts_only_from_the_command_that_measures_it() -> None:
    other = figures(log_mr=0.8) | {"benchmark": "turnaround"}

    assert row_of(page_with(EMPTY, [other]), "log-mr")[3] == "–"

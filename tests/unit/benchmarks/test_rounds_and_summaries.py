"""Paired rounds, their ratios, and the bars that they are held against."""

import argparse
import json
from pathlib import Path

import pytest

from benchmarks.bars import BARS
from benchmarks.harness import (
    Report,
    Sample,
    add_output_options,
    paired_rounds,
    ratios,
    summarise,
)


def silent(_text: str) -> None:
    """Tell nobody of the progress."""


def test_order_turns_around_each_round_and_the_first_round_does_not_count(
    tmp_path: Path,
) -> None:
    order = []

    def arm(name: str, per_s: float) -> Sample:
        order.append(name)
        return {"per_s": per_s + len(order)}

    measured = paired_rounds(
        {"a": lambda _: arm("a", 100), "b": lambda _: arm("b", 0)},
        rounds=2,
        folder=tmp_path,
        tell=silent,
    )

    assert "".join(order) == "baabba"
    assert measured.values("a", "per_s") == [103, 106]
    assert measured.values("b", "per_s") == [4, 5]


def test_each_run_gets_a_fresh_folder_and_none_is_deleted(tmp_path: Path) -> None:
    seen = []

    def arm(folder: Path) -> Sample:
        assert not any(folder.iterdir())
        (folder / "instance").write_bytes(b"kept")
        seen.append(folder)
        return {"per_s": 1}

    paired_rounds({"a": arm, "b/c": arm}, rounds=2, folder=tmp_path, tell=silent)

    assert len(set(seen)) == 6
    assert all((folder / "instance").read_bytes() == b"kept" for folder in seen)


def test_a_run_that_does_not_count_ends_the_table(tmp_path: Path) -> None:
    def arm(_folder: Path) -> Sample:
        raise RuntimeError("one instance is missing")

    with pytest.raises(RuntimeError, match="one instance is missing"):
        paired_rounds({"a": arm}, rounds=1, folder=tmp_path, tell=silent)


def test_ratio_is_the_median_of_pairs_and_not_the_ratio_of_medians(
    tmp_path: Path,
) -> None:
    fast, slow = iter([9.0, 10, 20, 90]), iter([9.0, 10, 40, 30])

    measured = paired_rounds(
        {"fast": lambda _: {"s": next(fast)}, "slow": lambda _: {"s": next(slow)}},
        rounds=3,
        folder=tmp_path,
        tell=silent,
    )

    ratio = measured.ratio("fast", "slow", "s")
    assert (ratio.median, ratio.min, ratio.max, ratio.count) == (1.0, 0.5, 3.0, 3)


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValueError, match="3 rounds cannot be paired with 2"):
        ratios([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="cannot divide"):
        ratios([1], [0])
    with pytest.raises(ValueError, match="no figure was measured"):
        summarise([])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.7, 0.94, 1.69], "0.94 [0.70-1.69]"),
        ([1234.4, 980], "1107 [980-1234]"),
        ([12.34], "12.3 (1 run)"),
    ],
)
def test_summary_reads_as_median_and_range(values: list[float], text: str) -> None:
    assert str(summarise(values)) == text


def test_bar_tells_which_of_its_heights_is_reached() -> None:
    rate, memory = BARS["log-mr"], BARS["rss-mf"]

    assert [rate.verdict(value) for value in (0.69, 0.7, 0.99, 1.0)] == [
        *("NOT MET", "floor", "floor", "goal")
    ]
    assert [memory.verdict(value) for value in (121, 120, 81, 80)] == [
        *("NOT MET", "floor", "floor", "goal")
    ]
    assert BARS["inference-best"].verdict(0.9) == "goal not met"
    assert BARS["inference-1"].verdict(1000) == "floor"


def test_report_keeps_figures_machine_and_bars_in_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    add_output_options(parser)
    arguments = parser.parse_args(["--json", str(tmp_path / "new" / "figures.json")])
    report = Report("receive", tmp_path)

    report.table("Rates", [{"receiver": "log", "per s": summarise([1.0, 3, 2])}])
    report.bar("log-mr", summarise([0.65, 0.8, 0.75]))
    report.finish(arguments)

    kept = json.loads((tmp_path / "new" / "figures.json").read_text())
    assert kept["benchmark"] == "receive"
    assert kept["bars"]["log-mr"] == {
        "median": 0.75,
        "min": 0.65,
        "max": 0.8,
        "count": 3,
    }
    assert kept["tables"][0]["rows"][0]["per s"]["median"] == 2
    assert kept["machine"]["cores"]
    assert kept["versions"]["pydicom"]
    said = capsys.readouterr().out
    assert "2.00 [1.00-3.00]" in said
    assert "floor" in said


def test_figure_without_a_bar_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="log-mri"):
        Report("receive", tmp_path).bar("log-mri", summarise([1]))


def test_plot_draws_the_same_file_from_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the dependency group bench")
    from benchmarks.harness.plot import draw

    tables = {"MR": {"log": summarise([1.0, 2, 4]), "storescp": summarise([2.0])}}

    draw(tmp_path / "one.svg", "receive", tables)
    draw(tmp_path / "two.svg", "receive", tables)

    drawn = (tmp_path / "one.svg").read_text()
    assert "storescp" in drawn
    assert drawn == (tmp_path / "two.svg").read_text()

"""Figures as a picture: a group of bars for each table, with the rounds' range."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness.summary import Summary

__all__ = ["draw"]


def draw(path: Path, title: str, tables: Mapping[str, Mapping[str, Summary]]) -> None:
    """Draw medians as bars and least to greatest as lines over them.

    Parameters
    ----------
    path
        Ends in `.png` or `.svg`.
    tables
        By title: figures by row.

    Raises
    ------
    SystemExit
        If matplotlib is missing: it is in the dependency group `bench`.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - only who draws needs it
    except ModuleNotFoundError:
        raise SystemExit(
            "--plot needs matplotlib: install the dependency group `bench`"
        ) from None
    mpl.use("agg")
    # The same figures give the same file.
    mpl.rcParams["svg.hashsalt"] = "secondread"
    mpl.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot  # noqa: PLC0415

    shown = {name: rows for name, rows in tables.items() if rows}
    if not shown:
        return
    heights = [0.7 + 0.3 * len(rows) for rows in shown.values()]
    figure, axes = pyplot.subplots(
        len(shown),
        figsize=(7, sum(heights) + 0.4),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    figure.suptitle(title)
    for axis, (name, rows) in zip(axes[:, 0], shown.items(), strict=True):
        middles = [one.median for one in rows.values()]
        below = [one.median - one.min for one in rows.values()]
        above = [one.max - one.median for one in rows.values()]
        places = range(len(rows))
        axis.barh(places, middles, xerr=(below, above), color="#4477aa", capsize=2)
        axis.set_yticks(places, list(rows), fontsize=8)
        axis.invert_yaxis()
        axis.tick_params(axis="x", labelsize=8)
        axis.set_title(name, fontsize=9, loc="left")
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    figure.savefig(path, metadata=metadata)
    pyplot.close(figure)

"""The part of a model card that is figures: written from them, never by hand."""

from collections.abc import Mapping
from typing import Any

__all__ = ["pass_rate_table", "performance_table"]

_TITLES = {
    "auc": "Area under the ROC curve",
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ece": "Expected calibration error (10 bins)",
    "brier": "Brier score",
}


def performance_table(figures: Mapping[str, Any]) -> str:
    """Write figures as Markdown.

    Parameters
    ----------
    figures
        As `models.evaluation.evaluate` or `evaluate_out_of_fold` returns them.
    """
    folds = figures.get("folds", ())
    lines = [
        f"{figures['images']:,} images, {figures['positive_images']:,} positive, "
        f"of {figures['patients']:,} patient groups.",
        "",
        "| Figure | Value | 95 % interval |" + (" Each fold |" if folds else ""),
        "|---|---|---|" + ("---|" if folds else ""),
    ]
    for name, title in _TITLES.items():
        figure = figures["metrics"][name]
        line = f"| {title} | {figure['value']:.3f} | "
        line += f"{figure['low']:.3f} to {figure['high']:.3f} |"
        if folds:
            values = (f"{fold['metrics'][name]['value']:.3f}" for fold in folds)
            line += f" {', '.join(values)} |"
        lines.append(line)
    counts = figures["confusion"]
    lines += [
        "",
        f"Of {counts['true_positive'] + counts['false_negative']:,} positive images "
        f"{counts['true_positive']:,} were called positive; of "
        f"{counts['true_negative'] + counts['false_positive']:,} others "
        f"{counts['false_positive']:,} were.",
    ]
    return "\n".join(lines)


def pass_rate_table(figures: Mapping[str, Any]) -> str:
    """Write how many held-out images pass the guard of scope, as Markdown.

    Parameters
    ----------
    figures
        The content of `scope.json`, as `python -m models.scope` writes it.
    """
    rows = [(f"Fold {number}", one) for number, one in enumerate(figures["folds"], 1)]
    lines = [
        "| Held out | Images | Pass | Share | 95 % interval |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {one['images']:,} | {one['passed']:,} | {one['value']:.2%} | "
        f"{one['low']:.2%} to {one['high']:.2%} |"
        for name, one in [*rows, ("All", figures["together"])]
    ]
    return "\n".join(lines)

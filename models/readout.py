"""From logits to coded findings: calibrated probability, threshold, presence."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from core.domain import Finding, ImageReference, Presence
from core.errors import InternalError, ModelOutputInvalid
from models.bundle import Bundle
from models.calibration import calibrated
from models.specification import Activation, OutputSpecification

__all__ = ["findings", "presence", "probabilities", "series_findings"]


def findings(
    bundle: Bundle, logits: npt.NDArray[np.float32], images: Sequence[ImageReference]
) -> tuple[Finding, ...]:
    """Turn a network's answers on the images of one study into its findings.

    Several images give one finding for each output, at the highest probability: what
    one film shows is not undone by another on which it cannot be seen.

    Parameters
    ----------
    bundle
        Gives calibration, threshold and codes.
    logits
        (images, outputs), finite.
    images
        Which image each row is of.

    Raises
    ------
    ModelOutputInvalid
        If a logit is not finite.
    InternalError
        If the numbers of images or outputs disagree.
    """
    if logits.shape != (len(images), len(bundle.outputs)) or not images:
        raise InternalError(
            f"Logits of shape {logits.shape} do not belong to {len(images)} image(s) "
            f"and {len(bundle.outputs)} output(s) of {bundle.name}."
        )
    answers = []
    for column, output in enumerate(bundle.outputs):
        probability = float(probabilities(logits[:, column], output).max())
        answers.append(
            Finding(
                tracking_identifier=output.tracking_identifier,
                code=output.finding,
                probability=probability,
                threshold=output.threshold,
                presence=presence(probability, output),
                site=output.site,
                images=tuple(images),
            )
        )
    return tuple(answers)


def series_findings(
    bundle: Bundle, logits: npt.NDArray[np.float32], images: Sequence[ImageReference]
) -> tuple[Finding, ...]:
    """Turn answers on the images of a series into findings that name one image each.

    As `findings`, but each finding rests on the image with the highest probability:
    a reader wants to see that slice, not all of them.

    Parameters
    ----------
    bundle, logits, images
        As for `findings`; the same errors.
    """
    together = findings(bundle, logits, images)
    chosen = []
    for column, output in enumerate(bundle.outputs):
        row = int(probabilities(logits[:, column], output).argmax())
        chosen.append(replace(together[column], images=(images[row],)))
    return tuple(chosen)


def probabilities(
    logits: npt.NDArray[np.floating], output: OutputSpecification
) -> npt.NDArray[np.float64]:
    """Return the calibrated probability of each logit, 0 to 1.

    Raises
    ------
    ModelOutputInvalid
        If a logit is not finite.

    Source
    ------
    Platt 1999, Probabilistic outputs for support vector machines.
    """
    if not np.isfinite(logits).all():
        raise ModelOutputInvalid(
            f"The output {output.tracking_identifier} is not finite; a probability was "
            "expected. Check the bundle with its golden cases and the input image."
        )
    match output.activation:
        case Activation.SIGMOID:
            return calibrated(logits, output.temperature, output.bias)


def presence(probability: float, output: OutputSpecification) -> Presence:
    """Say where a probability stands against the threshold and the uncertain band."""
    if output.uncertain_band is not None:
        low, high = output.uncertain_band
        if low <= probability < high:
            return Presence.UNDETERMINED
    return Presence.PRESENT if probability >= output.threshold else Presence.ABSENT

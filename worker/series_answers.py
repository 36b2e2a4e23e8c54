"""The answers on the images of a series, gathered in runs of the network's own size."""

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from core.domain import ImageReference, NotAnalysedReason
from models.bundle import Bundle
from models.loaded import LoadedModel
from models.scope.guard import image_refusal
from worker.inputs import PreparedInput

__all__ = ["SeriesAnswers"]


class SeriesAnswers:
    """Takes images one by one and asks the network about as many as it gains by.

    Parameters
    ----------
    bundle, model
        Whom to ask.
    """

    def __init__(self, bundle: Bundle, model: LoadedModel) -> None:
        self._bundle = bundle
        self._model = model
        self._waiting: list[PreparedInput] = []
        self._logits: list[npt.NDArray[np.float32]] = []
        self._notes: dict[str, None] = {}
        self._outside: list[tuple[NotAnalysedReason, str]] = []
        self.images: list[ImageReference] = []
        """Those that were answered, in order."""
        self.seconds = {"decode": 0.0, "prepare": 0.0, "infer": 0.0}
        """Of each stage, all images together; stages overlap."""

    def add(self, one: PreparedInput) -> None:
        """Take the next image."""
        self.seconds["decode"] += one.decode_s
        self.seconds["prepare"] += one.prepare_s
        self._notes |= dict.fromkeys(one.notes)
        self._waiting.append(one)
        if len(self._waiting) >= self._model.runtime.largest_batch:
            self.finish()

    def finish(self) -> None:
        """Ask about what waits."""
        if not self._waiting:
            return
        began = time.perf_counter()
        given, self._waiting = self._waiting, []
        answer = self._model.answer(np.stack([one.values for one in given]))
        self.seconds["infer"] += time.perf_counter() - began
        for number, one in enumerate(given):
            outside = None
            if self._bundle.scope is not None and answer.distances is not None:
                distance = float(answer.distances[number])
                outside = image_refusal(self._bundle.scope, distance)
            if outside is None:
                self.images.append(one.reference)
                self._logits.append(answer.logits[number])
            else:
                self._outside.append(outside)

    def logits(self) -> npt.NDArray[np.float32]:
        """Return (images, outputs)."""
        return np.stack(self._logits)

    def all_outside(self) -> tuple[NotAnalysedReason, str] | None:
        """Return why nothing was answered; None if something was."""
        return None if self.images else self._outside[0]

    def notes(self) -> Sequence[str]:
        """Return sentences for the reader of the report, each once."""
        told = list(self._notes)
        if self._outside:
            total = len(self.images) + len(self._outside)
            told.append(
                f"{len(self._outside)} of {total} images are out of the model's scope "
                "and were left out."
            )
        return told

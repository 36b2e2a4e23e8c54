"""What comes after an answer: done, try again later, or failed. No clock in here."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from core.database.deliveries import DeliveryRow
from core.settings import DeliverySettings
from dicom_node.senders.sender import Answer, Outcome

__all__ = ["Next", "Step", "next_step"]


class Next(StrEnum):
    """What to do with a delivery after an attempt."""

    DONE = "done"
    LATER = "later"
    FAILED = "failed"


@dataclass(frozen=True)
class Step:
    """The decision about a delivery, and the words that go with it."""

    next: Next
    delay_s: float
    """For `LATER`."""
    words: str
    refused: bool = False


def next_step(
    delivery: DeliveryRow,
    answer: Answer,
    settings: DeliverySettings,
    *,
    now: float,
    draw: Callable[[], float],
) -> Step:
    """Decide what comes after an attempt.

    Parameters
    ----------
    delivery
        As it was before the attempt.
    answer
        What the destination said.
    settings
        Delays, horizon and how many refusals are final.
    now
        Seconds since 1970, UTC.
    draw
        Gives a number from 0 to 1, so that many reports do not come back at once.
    """
    if answer.outcome is Outcome.ACCEPTED:
        return Step(Next.DONE, 0.0, answer.words)
    refused = answer.outcome is Outcome.REFUSED
    refusals = delivery.refusals + refused
    if refused and refusals >= settings.refusals_before_failed:
        return Step(Next.FAILED, 0.0, f"refused {refusals} times: {answer.words}")
    if now - delivery.created_at >= settings.horizon_s:
        hours = settings.horizon_s / 3600
        return Step(
            Next.FAILED, 0.0, f"not accepted within {hours:g} h; last: {answer.words}"
        )
    # The exponent is bounded, because 2.0 ** 1024 is no float.
    doubled = settings.first_delay_s * 2.0 ** min(delivery.attempts, 64)
    longest = min(doubled, settings.maximum_delay_s)
    # Half of it is certain, the other half drawn.
    return Step(Next.LATER, longest * (0.5 + draw() / 2), answer.words, refused)

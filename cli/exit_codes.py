"""Which exit status an error becomes: the one table for all commands."""

from core import errors

__all__ = ["FAILURE", "SUCCESS", "UNAVAILABLE", "USAGE", "exit_code_of"]

SUCCESS = 0
FAILURE = 1
USAGE = 2
"""Wrong arguments or settings: trying again without a change cannot help."""
UNAVAILABLE = 3
"""A broker, database or peer did not answer: trying again later may help."""

_BY_ERROR: tuple[tuple[type[errors.SecondreadError], int], ...] = (
    (errors.InvalidSettings, USAGE),
    (errors.BrokerUnavailable, UNAVAILABLE),
    (errors.DestinationUnavailable, UNAVAILABLE),
    (errors.StoreUnavailable, UNAVAILABLE),
)


def exit_code_of(error: errors.SecondreadError) -> int:
    """Return the exit status that tells a script what kind of failure it was."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), FAILURE)

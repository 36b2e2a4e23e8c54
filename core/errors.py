"""Every error of secondread, grouped by who must act on it.

::

    SecondreadError
    +-- SenderError        the peer sent something that cannot be kept or read
    |   +-- InvalidInstance      the data set breaks PS3.5 or names itself wrongly
    |   |   +-- InvalidUid       a UID that breaks the rule for UIDs
    |   |   +-- MismatchedInstance  the command names another instance than its data set
    |   +-- UnsupportedImage     a sound instance whose pixels no model may read
    |   +-- ConflictingInstance  a known SOP Instance UID with other content
    +-- OperatorError      somebody who runs the system must change something
    |   +-- InvalidSettings      a setting is missing, unknown or out of range
    |   +-- StoreFull            no space (or no file size) left for an instance
    |   +-- StoreUnavailable     the store or the database cannot be used now
    |   +-- BrokerUnavailable    the queue's broker does not answer
    |   +-- InvalidAccount       an account that cannot be made or changed so
    |   +-- DestinationRefused   a peer answered and said no, for good
    |   +-- DestinationUnavailable  a peer did not answer, or said "later"
    +-- ReaderError        whoever assesses a result has to act
    |   +-- InvalidAssessment    an assessment that says nothing or contradicts itself
    |   +-- AlreadyAssessed      somebody else decided first; nothing was overwritten
    |   +-- TooLate              the document has left; decide anew instead
    +-- ModelError         a model package must be repaired
    |   +-- InvalidBundle        the package does not pass its own checks
    |   +-- ModelOutputInvalid   the network returned something that is no probability
    +-- InternalError      a bug of ours
        +-- IllegalTransition    a state was asked to take an event it does not know
        +-- InvalidReport        a report did not pass its own read-back

How an error becomes a DIMSE status, a retry or an HTTP status is written in one table
each, next to the protocol, never where it is raised.
"""

__all__ = [
    "AlreadyAssessed",
    "BrokerUnavailable",
    "ConflictingInstance",
    "DestinationRefused",
    "DestinationUnavailable",
    "IllegalTransition",
    "InternalError",
    "InvalidAccount",
    "InvalidAssessment",
    "InvalidBundle",
    "InvalidInstance",
    "InvalidReport",
    "InvalidSettings",
    "InvalidUid",
    "MismatchedInstance",
    "ModelError",
    "ModelOutputInvalid",
    "OperatorError",
    "ReaderError",
    "SecondreadError",
    "SenderError",
    "StoreFull",
    "StoreUnavailable",
    "TooLate",
    "UnsupportedImage",
]


class SecondreadError(Exception):
    """Root of all errors; its text is fit for a log and holds no patient data."""


class SenderError(SecondreadError):
    """The peer that sent an object has to act."""


class InvalidInstance(SenderError):
    """A data set that cannot be walked to its end, or whose identity is unusable."""


class InvalidUid(InvalidInstance):
    """A SOP Class or SOP Instance UID that is missing or breaks PS3.5 9.1."""


class MismatchedInstance(InvalidInstance):
    """A command that names another SOP class or instance than its data set."""


class UnsupportedImage(SenderError):
    """A sound instance whose pixels cannot be read or must not be analysed.

    Parameters
    ----------
    reason
        Value of `core.domain.NotAnalysedReason` that ends in the report.
    message
        What was found, which attribute, what was expected.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ConflictingInstance(SenderError):
    """A SOP Instance UID that is already kept with other content; the first stays."""


class OperatorError(SecondreadError):
    """Whoever runs this installation has to act."""


class InvalidSettings(OperatorError):
    """A setting is missing, unknown or out of range."""


class InvalidAccount(OperatorError):
    """An account, a password or a link that cannot be made or used so."""


class StoreFull(OperatorError):
    """The instance store has no space left."""


class StoreUnavailable(OperatorError):
    """The instance store or the database cannot be used now."""


class BrokerUnavailable(OperatorError):
    """The broker does not answer; open jobs wait in the database."""


class DestinationRefused(OperatorError):
    """A destination answered with a failure that sending again will not change."""


class DestinationUnavailable(OperatorError):
    """A destination did not answer, or answered that it may accept later."""


class ReaderError(SecondreadError):
    """Whoever assesses a result has to act."""


class InvalidAssessment(ReaderError):
    """An assessment that says nothing, contradicts itself, or has no result."""


class AlreadyAssessed(ReaderError):
    """Somebody else decided first; the first decision stands."""


class TooLate(ReaderError):
    """The time for taking a decision back is over."""


class ModelError(SecondreadError):
    """Whoever made or installed a model package has to act."""


class InvalidBundle(ModelError):
    """A model package that does not pass its own checks; it is never served."""


class ModelOutputInvalid(ModelError):
    """A network's output that is not finite or not within its stated range."""


class InternalError(SecondreadError):
    """A bug of secondread."""


class IllegalTransition(InternalError):
    """An event that the present state does not accept; nothing was changed."""


class InvalidReport(InternalError):
    """A report that failed its read-back; it is not released."""

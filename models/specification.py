"""What a model package says of itself, as frozen values.

`models.bundle` reads these from `bundle.toml`; everything else in this room takes them.
"""

from dataclasses import dataclass
from enum import StrEnum

from core.domain import Code

__all__ = [
    "Activation",
    "AgePolicy",
    "AppliesTo",
    "Aspect",
    "Images",
    "InputSpecification",
    "Normalisation",
    "OutputSpecification",
    "RuntimeHints",
    "ScopeSpecification",
]


class Aspect(StrEnum):
    """What becomes of an image whose sides relate otherwise than the input's."""

    STRETCH = "stretch"
    """Each axis is scaled for itself; nothing is cut and nothing added."""
    PAD = "pad"
    """Scaled as a whole, centred, the rest filled with black."""


class Normalisation(StrEnum):
    """How grey values become the network's numbers, after the resize."""

    NONE = "none"
    """Only the value range is applied."""
    IMAGE = "image"
    """Mean 0 and standard deviation 1 over the one image's own pixels."""


class Images(StrEnum):
    """How many images of a study a network is asked about."""

    BEST = "best"
    """One: the best of those that the model may read."""
    EVERY = "every"
    """Each image and frame of the series that the best one is of, each by itself."""


class Activation(StrEnum):
    """How one logit becomes a probability."""

    SIGMOID = "sigmoid"


class AgePolicy(StrEnum):
    """What to do with a patient whose known age lies outside the range."""

    REFUSE = "refuse"
    NOTE = "note"


@dataclass(frozen=True)
class InputSpecification:
    """The one image a network takes."""

    rows: int
    columns: int
    channels: int = 1
    """1, or 3 equal ones for networks made for colour photographs."""
    value_range: tuple[float, float] = (0.0, 1.0)
    """What black and white become before the normalisation."""
    aspect: Aspect = Aspect.STRETCH
    normalisation: Normalisation = Normalisation.NONE
    images: Images = Images.BEST

    def describe(self) -> str:
        """Say the preparation in one line, fit for a report."""
        low, high = self.value_range
        return (
            f"area resize to {self.rows}x{self.columns}x{self.channels}, "
            f"aspect {self.aspect.value}, values {low:g} to {high:g}, "
            f"normalisation {self.normalisation.value}"
        )


@dataclass(frozen=True)
class OutputSpecification:
    """One unit of the network's last layer as a coded finding."""

    tracking_identifier: str
    finding: Code
    site: Code | None
    activation: Activation
    temperature: float
    """The logit is divided by it before the activation; 1 changes nothing."""
    bias: float
    """Added after the temperature and before the activation; 0 changes nothing."""
    threshold: float
    """Probability at and above which the finding is present."""
    uncertain_band: tuple[float, float] | None = None
    """Probabilities from the first up to, not with, the second are undetermined."""


@dataclass(frozen=True)
class AppliesTo:
    """Which series a model was made for; an empty set asks for nothing."""

    modalities: frozenset[str]
    sop_class_uids: frozenset[str] = frozenset()
    body_parts: frozenset[str] = frozenset()
    """Values of Body Part Examined (0018,0015), in capitals."""
    views: frozenset[str] = frozenset()
    """Values of View Position (0018,5101), in capitals."""
    age_years: tuple[float, float] | None = None
    """Ages in completed years, from the first to the second, both included."""
    age_policy: AgePolicy = AgePolicy.REFUSE


@dataclass(frozen=True)
class ScopeSpecification:
    """How far from the training images an image may lie (`models.scope.guard`)."""

    layer: str
    """Name of the network's layer whose output, (n, k), is compared."""
    picture_side: int
    """Sides of the small picture that is compared with it."""
    limit: float
    """The largest distance at which an image is read."""
    reason: str
    """Sentence for the report of an image that lies farther."""


@dataclass(frozen=True)
class RuntimeHints:
    """What one reading may cost."""

    time_limit_s: float
    """Longest reading; the worker's own limit counts if it is less."""
    memory_mib: int
    """Largest growth of the process by loading the network, and by one run of it."""

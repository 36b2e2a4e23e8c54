"""Everything that shapes a training run, in one value that is kept with its results."""

import json
from dataclasses import asdict, dataclass, field

from models.specification import Aspect, InputSpecification, Normalisation
from models.training.augmentation import Augmentation

__all__ = ["TrainingPlan"]


@dataclass(frozen=True)
class TrainingPlan:
    """One binary classifier: what it learns from and how.

    The defaults are those of the shipped lung model.
    """

    input: InputSpecification = field(
        default_factory=lambda: InputSpecification(
            rows=128,
            columns=128,
            aspect=Aspect.STRETCH,
            normalisation=Normalisation.IMAGE,
        )
    )
    positive_label: str = "pneumonia"
    """Value of the index's column `label` that the output stands for; every other
    label is a negative."""
    stages: tuple[tuple[int, int], ...] = ((16, 1), (32, 1), (64, 1), (128, 2))
    """Channels and residual blocks of each stage of the network."""
    folds: int = 3
    epochs: int = 16
    """Fixed beforehand: no epoch is chosen by looking at held-out films."""
    batch_size: int = 32
    learning_rate: float = 2e-3
    """At its highest, after one epoch of warm-up; a cosine takes it to zero."""
    weight_decay: float = 0.01
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 20261123

    def to_json(self) -> str:
        """Write the plan as it is kept beside what it made."""
        return json.dumps(asdict(self), indent=2) + "\n"

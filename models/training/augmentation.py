"""Small random changes that a film could have had anyway.

The two axes are scaled independently, more than a radiographer would: in the training
data the matrix of a film tells its class (sick children lie, wide films), the squeeze
to a square turns that into a stretch, and a network would read the stretch.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

__all__ = ["Augmentation", "augment"]

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """How far an image is changed; each amount is drawn evenly from its range."""

    shift: float = 0.06
    """Part of the side, either way."""
    rotation_degrees: float = 8.0
    zoom: float = 0.10
    """Part, either way, of both axes together."""
    aspect: float = 0.25
    """Natural logarithm of the ratio of the axes, either way."""
    gamma: float = 0.35
    """Natural logarithm of the exponent, either way."""
    contrast: float = 0.15
    brightness: float = 0.08
    flip: bool = True
    """Left and right, every second time: neither the finding nor its absence knows a
    side."""


def augment(
    image: FloatArray, amounts: Augmentation, random: np.random.Generator
) -> FloatArray:
    """Change one image at random.

    Parameters
    ----------
    image
        (rows, columns), float32, 0 to 1. Not changed.
    amounts
        The ranges.
    random
        Where chance comes from.

    Returns
    -------
    (rows, columns), float32, 0 to 1. What comes in from outside is black.
    """

    def within(amount: float) -> float:
        return float(random.uniform(-amount, amount))

    rows, columns = image.shape
    angle = np.deg2rad(within(amounts.rotation_degrees))
    zoom, aspect = 1 + within(amounts.zoom), within(amounts.aspect)
    scale_x, scale_y = zoom * np.exp(aspect / 2), zoom * np.exp(-aspect / 2)
    if amounts.flip and random.random() < 0.5:
        scale_x = -scale_x
    rotate = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotate @ np.diag([scale_x, scale_y])
    center = np.array([(columns - 1) / 2, (rows - 1) / 2])
    moved = np.array([within(amounts.shift) * columns, within(amounts.shift) * rows])
    matrix = np.column_stack([linear, center - linear @ center + moved])
    warped = cv2.warpAffine(image, matrix, (columns, rows), flags=cv2.INTER_LINEAR)
    toned = np.power(np.clip(warped, 0, 1), np.exp(within(amounts.gamma)))
    toned = (toned - 0.5) * (1 + within(amounts.contrast)) + 0.5
    return np.clip(toned + within(amounts.brightness), 0, 1).astype(np.float32)

"""The small residual network that the shipped bundle uses.

Imports Keras: only training does that, never the reading of a bundle.
"""

from typing import Any

import keras
from keras import layers

from models.specification import InputSpecification

__all__ = ["residual_network"]


def residual_network(
    specification: InputSpecification,
    *,
    outputs: int = 1,
    stages: tuple[tuple[int, int], ...] = ((16, 1), (32, 1), (64, 1), (128, 2)),
    dropout: float = 0.3,
) -> Any:
    """Build a residual CNN with random weights.

    Parameters
    ----------
    specification
        The input.
    outputs
        Units of the last layer, which returns logits.
    stages
        Channels and residual blocks of each; each but the first halves the matrix.
    dropout
        Part of the pooled features dropped in training.

    Returns
    -------
    keras.Model, uncompiled.

    Source
    ------
    He et al. 2016, Deep residual learning for image recognition (basic block, here with
    batch normalisation after each convolution).
    """
    shape = (specification.rows, specification.columns, specification.channels)
    inputs = keras.Input(shape, name="image")
    # Half the matrix at once: full-size maps would cost more than all that follows.
    net = _convolution(inputs, stages[0][0], size=5, stride=2)
    net = layers.ReLU()(net)
    for stage, (width, blocks) in enumerate(stages):
        for block in range(blocks):
            net = _block(net, width, stride=2 if stage > 0 and block == 0 else 1)
    net = layers.GlobalAveragePooling2D()(net)
    net = layers.Dropout(dropout)(net)
    logits = layers.Dense(outputs, name="logits", dtype="float32")(net)
    return keras.Model(inputs, logits, name="residual_network")


def _convolution(net: Any, width: int, *, size: int = 3, stride: int = 1) -> Any:
    net = layers.Conv2D(width, size, strides=stride, padding="same", use_bias=False)(
        net
    )
    return layers.BatchNormalization(momentum=0.95)(net)


def _block(net: Any, width: int, *, stride: int) -> Any:
    shortcut = net
    if stride != 1 or net.shape[-1] != width:
        shortcut = _convolution(net, width, size=1, stride=stride)
    net = layers.ReLU()(_convolution(net, width, stride=stride))
    net = _convolution(net, width)
    return layers.ReLU()(layers.Add()([net, shortcut]))

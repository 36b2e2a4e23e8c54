"""Load a bundle's network once, in the fastest runtime that gives its known answers.

The light runtimes are tried first. They take the bundle's frozen graph, are held
against the golden cases more strictly than TensorFlow is, and the fastest of them
serves; TensorFlow is then never imported. It serves every other bundle, and is measured
against them where it could use a graphics processor.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from core.errors import InvalidBundle
from models.bundle import Bundle
from models.frozen.graph import FrozenGraph
from models.loaded import Answer, Considered, LoadedModel
from models.runtimes.litert import LiteRtRuntime
from models.runtimes.onnx import OnnxRuntime
from models.runtimes.seam import Runtime, resident_bytes, usable_cores

__all__ = [
    "LIGHT_RUNTIMES",
    "Answer",
    "Considered",
    "LoadedModel",
    "RuntimeWish",
    "light_candidates",
    "load",
]

RuntimeWish = Literal["automatic", "tensorflow", "litert", "onnx"]

PARITY = 1e-4
"""Largest difference of a golden logit from a light runtime (TensorFlow: the bundle's
own tolerance). Float32 sums in another order differ by some 1e-6; int8 by 1e-2."""
_TENSORFLOW = "tensorflow"
_GPU_DEVICES = (Path("/dev/nvidia0"), Path("/dev/kfd"))

LIGHT_RUNTIMES: Mapping[str, Callable[[FrozenGraph, int], Runtime]] = MappingProxyType(
    {"litert": LiteRtRuntime, "onnx": OnnxRuntime}
)
"""Those that run a frozen graph; each is an extra of its name."""


@dataclass(frozen=True)
class _Tried:
    considered: Considered
    model: LoadedModel | None


def load(
    bundle: Bundle,
    wish: RuntimeWish = "automatic",
    *,
    threads: int | None = None,
    light: Mapping[str, Callable[[FrozenGraph, int], Runtime]] = LIGHT_RUNTIMES,
) -> LoadedModel:
    """Load a network, warm it up and hold it against its golden cases.

    Parameters
    ----------
    bundle
        As `read_bundle` returned it, so its files have been checked.
    wish
        A runtime by name, or the fastest that serves. One that cannot serve gives way
        to TensorFlow; `LoadedModel.considered` says why.
    threads
        Cores that one operation may use; None: all that this process may.
    light
        The runtimes that may take a frozen graph.

    Raises
    ------
    InvalidBundle
        If no runtime can rebuild the network, or a golden case comes out otherwise than
        when the bundle was packed.
    """
    began = time.monotonic()
    threads = threads or usable_cores()
    wished = {name: make for name, make in light.items() if wish in ("automatic", name)}
    tried = [] if wish == _TENSORFLOW else _try_light(bundle, threads, wished)
    able = [one for one in tried if one.model is not None]
    if not able or (wish == "automatic" and _tensorflow_may_use_gpu()):
        tried.append(_try_tensorflow(bundle, threads))
        able = [one for one in tried if one.model is not None]
    fastest = min(able, key=lambda one: one.considered.seconds or 0.0)
    others = [_against(one.considered, fastest.considered) for one in tried]
    if all(one.name != _TENSORFLOW for one in others):
        others.append(
            Considered(_TENSORFLOW, False, "not loaded: a runtime without it serves")
        )
    model = fastest.model
    if model is None:
        raise AssertionError("only those that loaded were compared")
    model.considered = tuple(others)
    model.seconds_to_load = time.monotonic() - began
    return model


def light_candidates(
    bundle: Bundle, wish: RuntimeWish = "automatic"
) -> list[Considered]:
    """Try the runtimes that need no TensorFlow, and say which could serve and why not.

    Parameters
    ----------
    bundle, wish
        As for `load`.
    """
    tried = _try_light(bundle, usable_cores(), LIGHT_RUNTIMES)
    return [
        one.considered
        if wish in ("automatic", one.considered.name)
        else replace(
            one.considered, serves=False, why=f"the settings ask for {wish} instead"
        )
        for one in tried
    ]


def _try_light(
    bundle: Bundle,
    threads: int,
    light: Mapping[str, Callable[[FrozenGraph, int], Runtime]],
) -> list[_Tried]:
    graph = bundle.frozen_graph()
    if graph is None:
        why = "the bundle holds no frozen graph; pack it again to get one"
        return [_Tried(Considered(name, False, why), None) for name in light]
    return [_try(bundle, graph, threads, name, make) for name, make in light.items()]


def _try(
    bundle: Bundle,
    graph: FrozenGraph,
    threads: int,
    name: str,
    make: Callable[[FrozenGraph, int], Runtime],
) -> _Tried:
    before = resident_bytes()
    try:
        model = LoadedModel(bundle, make(graph, threads))
        model.prove(min(PARITY, bundle.golden_tolerance))
    except ImportError:
        why = f"not installed; pip install secondread[{name}]"
        return _Tried(Considered(name, False, why), None)
    except (InvalidBundle, ValueError, RuntimeError, OSError) as error:
        return _Tried(Considered(name, False, f"does not serve: {error}"), None)
    return _able(model, before)


def _try_tensorflow(bundle: Bundle, threads: int) -> _Tried:
    # Imported here: whoever is served by a light runtime never comes to it.
    from models.runtimes.tensorflow import (  # noqa: PLC0415
        TensorFlowRuntime,
        import_tensorflow,
    )

    # What TensorFlow itself takes is no bundle's cost, and does not come back.
    import_tensorflow()
    before = resident_bytes()
    model = LoadedModel(bundle, TensorFlowRuntime(bundle, threads))
    model.prove(bundle.golden_tolerance)
    return _able(model, before)


def _able(model: LoadedModel, bytes_before: int) -> _Tried:
    # Memory that an earlier network gave back shows no growth, so the file counts too.
    on_disk = model.bundle.weights_path.stat().st_size
    model.bytes = max(resident_bytes() - bytes_before, on_disk)
    seconds = model.seconds_an_image()
    name = model.runtime.name
    return _Tried(Considered(name, True, "golden cases agree", seconds), model)


def _against(one: Considered, fastest: Considered) -> Considered:
    if one is fastest or not one.serves:
        return one
    return replace(one, serves=False, why=f"{fastest.name} is faster here")


def _tensorflow_may_use_gpu() -> bool:
    """Tell whether there is a graphics processor and a TensorFlow that could use it."""
    if not any(path.exists() for path in _GPU_DEVICES):
        return False
    try:
        distribution("tensorflow-cpu")
    except PackageNotFoundError:
        return True
    return False

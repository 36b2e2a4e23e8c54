"""The networks that a process keeps in memory, the least recently used out first."""

import gc
import threading
from collections import OrderedDict
from collections.abc import Callable

from core.log import get_log
from models.bundle import Bundle
from models.loaded import LoadedModel
from models.runtime import load

__all__ = ["ResidentModels"]


class ResidentModels:
    """Networks in memory, each loaded once, within a budget.

    What a network costs is how much the process grew while it was loaded, not what its
    bundle says. The one that is asked for is always kept, however large.

    Parameters
    ----------
    budget_bytes
        For all networks together; None: no limit.
    loader
        How a bundle is loaded.
    """

    def __init__(
        self,
        budget_bytes: int | None = None,
        *,
        loader: Callable[[Bundle], LoadedModel] = load,
    ) -> None:
        self._budget = budget_bytes
        self._loader = loader
        self._loaded: OrderedDict[str, LoadedModel] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, bundle: Bundle) -> LoadedModel:
        """Return the bundle's network, loading it first unless it is in memory.

        Raises
        ------
        InvalidBundle
            If it cannot be loaded or fails its golden cases.
        """
        with self._lock:
            model = self._loaded.get(bundle.bundle_sha256)
            if model is None:
                model = self._loader(bundle)
                self._loaded[bundle.bundle_sha256] = model
            self._loaded.move_to_end(bundle.bundle_sha256)
            self._make_room()
            return model

    def holds(self, bundle_sha256: str) -> bool:
        """Tell whether a network is in memory."""
        with self._lock:
            return bundle_sha256 in self._loaded

    def used_bytes(self) -> int:
        """Return what the networks in memory cost together."""
        with self._lock:
            return sum(one.bytes for one in self._loaded.values())

    def _make_room(self) -> None:
        if self._budget is None:
            return
        while len(self._loaded) > 1 and self._budget < sum(
            one.bytes for one in self._loaded.values()
        ):
            _, gone = self._loaded.popitem(last=False)
            get_log().info(
                "model_let_go",
                model=gone.bundle.name,
                model_version=gone.bundle.version,
                bytes=gone.bytes,
            )
            del gone
            # A network is a ring of objects; its memory is wanted now.
            gc.collect()

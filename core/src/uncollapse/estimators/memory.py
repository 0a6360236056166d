"""How many latents go through a decoder at once: what a memory budget allows and a processor's cache likes."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, ByteSize
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import ConfigError

__all__ = ["Footprint", "Memory", "parse_memory", "peak_bytes"]

_UNITS = {
    **{unit: 1000**i for i, unit in enumerate(("B", "KB", "MB", "GB", "TB"))},
    **{unit: 1024**i for i, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), start=1)},
}

_CACHE = 16_000_000
"""Bytes of one pass on a CPU: larger ones leave the cache, and a latent then takes up to a third longer."""

_ROWS = 32
"""Latents of one pass on a CPU at least, where the budget allows: fewer pay for calls, and share little of an image."""


def parse_memory(text: object) -> int:
    """Return the bytes that ``text`` stands for: ``"500 MB"`` (powers of 1000), ``"1 GiB"`` (powers of 1024).

    Raises:
        ValueError: It is something else, or less than a byte.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]+)\s*", text) if isinstance(text, str) else None
    units = {unit.lower(): size for unit, size in _UNITS.items()}
    size = 0.0 if found is None else float(found[1]) * units.get(found[2].lower(), 0)
    if size < 1:
        raise ValueError(
            f"expected an amount of memory such as '500 MB' or '1 GiB', found {text!r}; units: {', '.join(_UNITS)}"
        )
    return int(size)


Memory = Annotated[str, BeforeValidator(lambda text: parse_memory(text) and text)]
"""A field of a config: a text that :func:`parse_memory` understands."""


def peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """Return the most memory that what ``function`` allocates takes at one time.

    Asked of the allocator on CUDA. Elsewhere the results of torch's operations are counted from their making to their
    end. What an operation needs for itself meanwhile is not seen there, a convolution's copy of its weights say.
    """
    if device.type == "cuda":
        function()  # Libraries keep work space from their first call on; it is not the call's own.
        torch.cuda.reset_peak_memory_stats(device)
        before = int(torch.cuda.memory_allocated(device))
        function()
        return int(torch.cuda.max_memory_allocated(device)) - before
    allocations = _Allocations()
    with allocations:
        function()
    return allocations.peak


class _Allocations(TorchDispatchMode):
    """Counts the bytes of storages that operations make, until each is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live = 0
        self._counted: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch imports its whole compiler at the first operation, which takes seconds.
        return False

    def __torch_dispatch__(
        self, function: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        # A view's storage is that of an argument, and no new memory.
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and made.untyped_storage()._cdata not in given:
                self._count(made.untyped_storage())
        self.peak = max(self.peak, self._live)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._counted:
            return

        def freed(_: object) -> None:
            self._live -= size
            del self._counted[key]

        self._counted[key] = weakref.ref(storage, freed)
        self._live += size


@dataclass(frozen=True)
class Footprint:
    """What a pass over latents of one image takes at its peak, in bytes.

    Args:
        image: For the image, however many its latents are.
        latent: For each latent.
    """

    image: int
    latent: int

    @classmethod
    def measure(cls, function: Callable[[Tensor, Tensor], object], z: Tensor, x: Tensor) -> Footprint:
        """Measure ``function(z [S, B, *D], x [B, *X])`` on two and on four copies of the first latent."""

        def peak(count: int) -> int:
            latents = z[:1, :1].repeat(count, *[1] * (z.dim() - 1))
            return peak_bytes(lambda: function(latents, x[:1]), z.device)

        two, four = peak(2), peak(4)
        latent = max(1, -(-(four - two) // 2))
        return cls(max(0, two - 2 * latent), latent)

    def chunk(self, budget: int, samples: int, images: int, device: torch.device) -> tuple[int, int]:
        """Return how many latents of how many images go through at once.

        All ``samples`` of as many images as there is room for, so that what an image's latents share is computed once;
        else a part of the samples of one image.

        Raises:
            ConfigError: One latent takes more than the budget.
        """
        if self.image + self.latent > budget:
            raise ConfigError(
                f"evaluation.estimators: memory: one latent of this model takes {_words(self.image + self.latent)}, "
                f"more than the {_words(budget)} allowed; raise it"
            )
        room = budget
        if device.type == "cpu":
            room = min(room, self.image + max(_CACHE, _ROWS * self.latent))
        whole = self.image + samples * self.latent
        if whole <= room:
            return samples, _even(images, room // whole)
        return _even(samples, (room - self.image) // self.latent), 1


def _even(count: int, most: int) -> int:
    """Return the size of the largest of as few parts of ``count`` as ``most`` allows, all about equal."""
    parts = -(-count // most)
    return -(-count // parts)


def _words(size: int) -> str:
    return ByteSize(size).human_readable(decimal=True)

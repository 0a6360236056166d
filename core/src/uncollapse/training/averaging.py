"""Polyak averaging of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["PolyakAverage"]


class PolyakAverage:
    """Exponential moving average of a module's parameters: ``average += (1 - decay) * (parameter - average)``.

    Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging (1992), in the form of MAE's released
    code (Ma et al., 2019, https://arxiv.org/abs/1901.01498): parameters only, buffers stay the model's; no bias
    correction; the average starts at the parameters as they are now, after data-dependent initialization.

    Args:
        module: Whose trainable parameters are averaged. Their storage must not be replaced afterwards.
        decay: Weight of the past, below 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        named = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
        self._names = list(named)
        self._current = list(named.values())
        self._average = [p.clone() for p in self._current]
        # One parameter may go by several names; each of them is averaged once and stored under all.
        by_storage = {id(p): name for name, p in module.named_parameters()}
        self._canonical = {n: by_storage[id(p)] for n, p in module.named_parameters(remove_duplicate=False)}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the parameters, once after every optimizer step."""
        torch._foreach_lerp_(self._average, self._current, 1 - self.decay)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Put the average in the parameters' place, and the parameters back bit for bit afterwards."""
        with torch.no_grad():
            kept = [p.clone() for p in self._current]
            torch._foreach_copy_(self._current, self._average)
            try:
                yield
            finally:
                torch._foreach_copy_(self._current, kept)

    def averages(self) -> dict[str, Tensor]:
        """Return the averages by parameter name, each of any shape: its parameter's."""
        return dict(zip(self._names, self._average, strict=True))

    def merged_into(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a copy of the module's state dict with averages in the parameters' place."""
        averages = self.averages()
        return {name: averages.get(self._canonical.get(name, name), value) for name, value in state.items()}

    @torch.no_grad()
    def load(self, averages: Mapping[str, Tensor]) -> None:
        """Restore averages by parameter name (a merged state dict will do)."""
        torch._foreach_copy_(self._average, [averages[name].to(a.device) for name, a in self.averages().items()])

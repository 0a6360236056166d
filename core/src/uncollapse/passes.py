"""What every estimator does the same way: evaluation mode, passes over a set, averages with their errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from .distributions import DiagonalNormal, gaussian_base
from .errors import DataError
from .protocols import Batch, Estimate, Progress

__all__ = [
    "AT_END",
    "as_float64",
    "batches_on_device",
    "device_of",
    "exact_gaussian",
    "mean_estimate",
    "measuring",
    "posterior_mean",
    "standard_error",
]

AT_END = Progress.at_end()
"""Estimators measure the finished model: every schedule at its final value."""


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """Switch off gradients and put ``model`` into evaluation mode; every module's own mode comes back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter or buffer, the CPU for a model without any."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def batches_on_device(model: nn.Module, batches: Callable[[], Iterable[Batch]]) -> Iterator[Batch]:
    """Start a pass over the set and yield its batches on the model's device.

    Raises:
        DataError: The set is empty.
    """
    device = device_of(model)
    empty = True
    for batch in batches():
        if len(batch) == 0:
            continue
        empty = False
        yield batch.to(device)
    if empty:
        raise DataError("the evaluation set is empty: batches() gave no example to measure on")


def as_float64(t: Tensor) -> Tensor:
    """Return ``t``, of any shape, in float64, on the CPU where the device has none (Apple's MPS)."""
    return t.cpu().double() if t.device.type == "mps" else t.double()


def standard_error(values: Tensor) -> float | None:
    """Return ``std(values) / sqrt(N)`` for ``[N]``, with n-1 in the variance; None for a single value."""
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else None


def mean_estimate(values: Tensor, unit: str, note: str = "", per_dimension: Tensor | None = None) -> Estimate:
    """Return the mean of one value per example ``[N]``, every example counting the same.

    Args:
        values: ``[N]``, float64.
        unit: Unit of the values.
        note: What limits the number.
        per_dimension: The same quantity per latent dimension ``[D]``.
    """
    return Estimate(
        value=values.mean().item(),
        unit=unit,
        standard_error=standard_error(values),
        count=len(values),
        per_dimension=None if per_dimension is None else tuple(per_dimension.tolist()),
        note=note,
    )


def exact_gaussian(distribution: Distribution) -> DiagonalNormal | None:
    """Return a distribution, batch ``[B]``, as a diagonal Gaussian if it is one; None for a flow over one."""
    if isinstance(distribution, Independent) and distribution.reinterpreted_batch_ndims == 0:
        return exact_gaussian(distribution.base_dist)
    return gaussian_base(distribution) if isinstance(distribution, DiagonalNormal | Normal | Independent) else None


def posterior_mean(q: Distribution, samples: int) -> tuple[Tensor, Tensor | None]:
    """Return ``E[z|x]`` ``[B, *D]``, and the variance of that estimate ``[B, *D]``, None where the mean is exact.

    Args:
        q: Posterior, batch ``[B]``.
        samples: Draws that are averaged where ``q`` has no mean in closed form, at least 2.
    """
    try:
        return q.mean, None
    except NotImplementedError:
        z = as_float64(q.sample(torch.Size((samples,))))
        return z.mean(0), z.var(0) / samples

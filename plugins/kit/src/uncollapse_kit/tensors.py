"""What the checks do with tensors and modules again and again."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .report import expect

__all__ = [
    "Spread",
    "autocast",
    "close",
    "expect_close",
    "expect_finite",
    "expect_gradients",
    "expect_shape",
    "expect_untouched",
    "mean_over_seeds",
    "perturb",
    "snapshot",
    "through_a_file",
]


def perturb(module: nn.Module, scale: float = 0.05) -> nn.Module:
    """Move every parameter a little, so that layers initialised at zero neither hide faults nor block gradients."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return module


def expect_shape(what: str, found: Iterable[int], expected: Iterable[int]) -> None:
    """Raise unless the shapes agree."""
    found, expected = tuple(found), tuple(expected)
    expect(found == expected, f"{what}: expected shape {expected}, found {found}")


def expect_finite(what: str, values: Tensor) -> None:
    """Raise unless every value is finite."""
    wrong = int((~torch.isfinite(values)).sum())
    expect(wrong == 0, f"{what}: {wrong} of {values.numel()} values are not finite")


def close(a: Tensor, b: Tensor, rtol: float = 1e-4, atol: float = 1e-5) -> bool:
    """Whether shapes agree and values do up to rounding."""
    return a.shape == b.shape and torch.allclose(a, b.to(a.dtype), rtol=rtol, atol=atol)


def expect_close(what: str, found: Tensor, expected: Tensor, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Raise unless values agree up to rounding; the message holds the largest difference."""
    expect_shape(what, found.shape, expected.shape)
    if not close(found, expected, rtol, atol):
        difference = float((found - expected).abs().max())
        expect(
            False, f"{what}: values differ by up to {difference:.3g} (allowed: {rtol:g} relative, {atol:g} absolute)"
        )


def expect_gradients(module: nn.Module, loss: Tensor, ignored: Iterable[nn.Parameter] = ()) -> None:
    """Raise unless ``loss`` gives every trainable parameter a gradient that is finite and not zero throughout."""
    skipped = {id(p) for p in ignored}
    named = [(n, p) for n, p in module.named_parameters() if p.requires_grad and id(p) not in skipped]
    if not named:
        return
    expect(loss.requires_grad, f"no gradient reaches {', '.join(n for n, _ in named)}: the result carries none")
    gradients = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True, retain_graph=True)
    dead = [n for (n, _), g in zip(named, gradients, strict=True) if g is None or not bool(g.any())]
    expect(not dead, f"no gradient reaches {', '.join(dead)}")
    wild = [
        n for (n, _), g in zip(named, gradients, strict=True) if g is not None and not bool(torch.isfinite(g).all())
    ]
    expect(not wild, f"the gradient of {', '.join(wild)} is not finite")


def autocast(enabled: bool) -> AbstractContextManager[Any]:
    """Return the context in which a bf16 run computes, or one that does nothing."""
    return torch.autocast("cpu", torch.bfloat16) if enabled else nullcontext()


def snapshot(module: nn.Module) -> dict[str, Any]:
    """Return a copy of what a module holds: its state, its mode, its gradients and what it trains."""
    return {
        "state": {k: v.clone() for k, v in module.state_dict().items() if isinstance(v, Tensor)},
        "training": {n: m.training for n, m in module.named_modules()},
        "gradients": {n: None if p.grad is None else p.grad.clone() for n, p in module.named_parameters()},
        "requires_grad": {n: p.requires_grad for n, p in module.named_parameters()},
    }


def expect_untouched(module: nn.Module, before: dict[str, Any], what: str = "the model") -> None:
    """Raise unless ``module`` is as it was at :func:`snapshot`."""
    after = snapshot(module)
    changed = [k for k, v in before["state"].items() if not torch.equal(v, after["state"][k])]
    expect(not changed, f"{what}'s {', '.join(changed)} changed")
    for key, told in (("training", "mode (train or eval)"), ("requires_grad", "requires_grad")):
        moved = [k or "itself" for k, v in before[key].items() if after[key][k] != v]
        expect(not moved, f"{what}'s {told} changed: {', '.join(moved)}")
    left = [k for k, v in after["gradients"].items() if v is not None and before["gradients"][k] is None]
    expect(not left, f"gradients were left on {what}'s {', '.join(left)}")


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """Return ``state`` as it comes back from a file that holds nothing but tensors and plain values."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


@dataclass(frozen=True)
class Spread:
    """A mean over seeds with its standard error, which is 0 where every seed gave the same."""

    mean: float
    standard_error: float

    def agrees(self, other: Spread, rtol: float = 1e-4, atol: float = 1e-4) -> bool:
        """Whether both are the same number: up to rounding, or up to 5 standard errors where there is noise."""
        noise = 5 * math.hypot(self.standard_error, other.standard_error)
        return abs(self.mean - other.mean) <= noise + rtol * abs(other.mean) + atol

    def __str__(self) -> str:
        return f"{self.mean:.6g}" + (f" ± {self.standard_error:.2g}" if self.standard_error else "")


def mean_over_seeds(value: Callable[[], Tensor], seeds: int = 64) -> Spread:
    """Return the mean of a scalar over seeds; two draws that agree are taken for a number without noise."""
    draws: list[float] = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        draws.append(float(value().detach()))
        if seed == 1 and math.isclose(draws[0], draws[1], rel_tol=1e-6, abs_tol=1e-7):
            return Spread(draws[0], 0.0)
    drawn = torch.tensor(draws, dtype=torch.float64)
    return Spread(float(drawn.mean()), float(drawn.std()) / math.sqrt(seeds))

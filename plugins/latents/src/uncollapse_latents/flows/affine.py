"""The affine autoregressive flow whose density is parallel and whose sampling is sequential."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Transform, constraints

from .made import MADE
from .zuko_names import LazyTransform

__all__ = ["AutoregressiveAffine", "AutoregressiveAffineTransform"]

Moments = Callable[[Tensor], tuple[Tensor, Tensor]]


class AutoregressiveAffineTransform(Transform):
    """``eps_d = shift_d(z) + z_d exp(log_scale_d(z))``, where both read only what comes before ``d`` in the order.

    MAE's autoregressive prior as released (Ma et al., 2019, https://arxiv.org/abs/1901.01498), after Papamakarios et
    al., Masked Autoregressive Flow (2017), section 3, https://arxiv.org/abs/1705.07057, whose log-scale has the
    opposite sign. Calling it is one pass; its inverse goes through the features one by one.

    Args:
        moments: ``z [..., D]`` to shift and log-scale, ``[..., D]`` each.
        order: The features' indices, first to last.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, moments: Moments, order: Sequence[int]) -> None:
        super().__init__()
        self.moments = moments
        self.order = order

    def _call(self, z: Tensor) -> Tensor:
        return self.call_and_ladj(z)[0]

    def _inverse(self, eps: Tensor) -> Tensor:
        z = torch.zeros_like(eps)
        positions = torch.arange(eps.shape[-1], device=eps.device)
        for d in self.order:
            # Features that are not known yet stay zero: values computed from wrong predecessors may overflow, and
            # infinity times a masked weight of zero is not a number.
            shift, log_scale = self.moments(z)
            value = (eps[..., d] - shift[..., d]) * (-log_scale[..., d]).exp()
            z = torch.where(positions == d, value.unsqueeze(-1), z)
        return z

    def log_abs_det_jacobian(self, z: Tensor, eps: Tensor) -> Tensor:
        """Return ``log |d eps / d z|``, ``[...]``, for ``z [..., D]``; ``eps`` is not needed."""
        return self.moments(z)[1].sum(-1)

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``eps [..., D]`` and ``log |d eps / d z|``, ``[...]``, in one pass."""
        shift, log_scale = self.moments(z)
        return shift + z * log_scale.exp(), log_scale.sum(-1)


class AutoregressiveAffine(LazyTransform):  # type: ignore[misc]  # zuko has no types
    """One flow with separate MADEs for mean and log-variance: ``eps = mean(z) + z exp(logvar(z) / 2)``.

    MAE's released prior is made of these (Ma et al., 2019, https://arxiv.org/abs/1901.01498). The log-variance is not
    bounded.

    Args:
        features: Dimension ``D``.
        hidden: Width of the MADEs' hidden layers.
        hidden_layers: How many hidden layers each has.
        reverse: Order the features from the last to the first.
        weight_norm: Normalize the MADEs' weights.
    """

    def __init__(
        self, features: int, hidden: int, hidden_layers: int = 1, reverse: bool = False, weight_norm: bool = True
    ) -> None:
        super().__init__()
        self.mean = MADE(features, hidden, hidden_layers, reverse, weight_norm)
        self.logvar = MADE(features, hidden, hidden_layers, reverse, weight_norm)
        order = range(features)
        self.order: Sequence[int] = order[::-1] if reverse else order

    def moments(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return shift and log-scale ``[..., D]`` for ``z [..., D]``, in ``z``'s precision."""
        return self.mean(z).to(z.dtype), 0.5 * self.logvar(z).to(z.dtype)

    def forward(self, c: Tensor | None = None) -> AutoregressiveAffineTransform:
        """Return the transform ``z -> eps``; it is unconditional and the context ``c`` is not used."""
        return AutoregressiveAffineTransform(self.moments, self.order)

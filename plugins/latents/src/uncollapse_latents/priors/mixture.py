"""Mixtures of distributions of one family, and the prior that is a mixture of Gaussians."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints
from uncollapse.config import BuildContext, PriorConfig
from uncollapse.distributions import DiagonalNormal

__all__ = ["GaussianMixturePrior", "GaussianMixturePriorConfig", "Mixture"]

# Numbers that one block of a log density is made of: 64 MiB in float32, however many values are asked for.
_BLOCK = 2**24


class Mixture(Distribution):
    """``p(z) = sum_k w_k p_k(z)``, batch ``[]``, event ``D``.

    Unlike ``torch.distributions.MixtureSameFamily`` a sample draws as many numbers as it needs, not those of all ``K``
    components, components may be any distribution (a flow, say), and memory does not grow with the values asked for.

    Args:
        components: The ``p_k``, batch ``[K]``, event ``D``.
        log_weights: ``[K]``, normalised; None for ``w_k = 1/K``.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's own signature
    has_rsample = False

    def __init__(self, components: Distribution, log_weights: Tensor | None = None) -> None:
        self.components = components
        self.log_weights = log_weights
        super().__init__(Size(), components.event_shape, validate_args=False)

    @property
    def count(self) -> int:
        """Number of components ``K``."""
        return int(self.components.batch_shape[0])

    @property
    def support(self) -> constraints.Constraint | None:
        """Return the components' support."""
        return self.components.support

    @property
    def mean(self) -> Tensor:
        """Mean ``[*D]``."""
        return self._average(self.components.mean)

    @property
    def variance(self) -> Tensor:
        """Variance of every dimension ``[*D]``: that within components and that between their means."""
        between = (self.components.mean - self.mean).square()
        return self._average(self.components.variance + between)

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Draw ``z [*sample_shape, *D]``: for each its component first, then the component's sample."""
        sample_shape = Size(sample_shape)
        with torch.no_grad():
            chosen = self.sample_components(sample_shape).flatten()
            q = self.components
            if isinstance(q, DiagonalNormal):
                event_dim = len(self.event_shape)
                z = DiagonalNormal(q.mean[chosen], q.logvar[chosen], event_dim).sample()
            else:
                z = self._sample_any(chosen)
            return z.reshape(sample_shape + self.event_shape)

    def sample_components(self, sample_shape: Any = Size()) -> Tensor:
        """Draw the components' numbers, ``[*sample_shape]``, each with its weight."""
        shape, like = Size(sample_shape), self._like()
        if self.log_weights is None:
            return torch.randint(self.count, shape, device=like.device)
        weights = self.log_weights.detach().exp()
        return torch.multinomial(weights, shape.numel(), replacement=True).reshape(shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ``log p(z)`` in nats, ``[...]`` for ``z [..., *D]``."""
        event_dim = len(self.event_shape)
        leading = value.shape[: value.dim() - event_dim]
        at_once = max(1, _BLOCK // max(1, self.count * self.event_shape.numel()))
        if leading.numel() <= at_once:
            return self._log_prob(value)
        blocks = value.reshape(-1, *self.event_shape).split(at_once)
        return torch.cat([self._log_prob(block) for block in blocks]).reshape(leading)

    def _log_prob(self, value: Tensor) -> Tensor:
        event_dim = len(self.event_shape)
        at = value.dim() - event_dim
        # Expanded, not only broadcast: a flow wants values of its own batch shape. No memory is taken.
        spread = value.unsqueeze(at).expand(*value.shape[:at], self.count, *self.event_shape)
        joint: Tensor = self.components.log_prob(spread)
        if self.log_weights is None:
            return joint.logsumexp(-1) - math.log(self.count)
        return (joint + self.log_weights).logsumexp(-1)

    def _sample_any(self, chosen: Tensor) -> Tensor:
        """Draw a sample of each component ``chosen [N]``; components draw in rounds, as many as the busiest needs."""
        order = chosen.argsort()
        counts = torch.bincount(chosen, minlength=self.count)
        first = counts.cumsum(0) - counts
        among_its_own = torch.arange(len(chosen), device=chosen.device) - first[chosen[order]]
        rounds = int(counts.max()) if len(chosen) else 0
        z = self.components.sample(Size((rounds,)))[among_its_own, chosen[order]]
        return torch.empty_like(z).index_copy_(0, order, z)

    def _average(self, values: Tensor) -> Tensor:
        if self.log_weights is None:
            return values.mean(0)
        average: Tensor = torch.tensordot(self.log_weights.exp(), values, dims=1)
        return average

    def _like(self) -> Tensor:
        if self.log_weights is not None:
            return self.log_weights
        q = self.components
        # Any distribution can say where it lives by a sample; a Gaussian need not draw one.
        return q.mean if isinstance(q, DiagonalNormal) else q.sample()


class GaussianMixturePrior(nn.Module):
    """``p(z) = sum_k w_k N(z; mean_k, diag(exp(logvar_k)))``, everything learnable: the mixture of Gaussians that
    Tomczak and Welling, VAE with a VampPrior (2018), https://arxiv.org/abs/1705.07120, compare eq. 9 with.

    It has no analytic rate against a Gaussian.

    Args:
        latent_shape: Shape ``D`` of one latent.
        components: Number of Gaussians ``K``.
        learn_weights: Learn the weights; else they stay ``1/K``.
        spread: Standard deviation of the initial means about 0; variances start at 1.
    """

    def __init__(
        self, latent_shape: tuple[int, ...], components: int = 10, learn_weights: bool = True, spread: float = 1.0
    ) -> None:
        super().__init__()
        self.mean = nn.Parameter(spread * torch.randn(components, *latent_shape))
        self.logvar = nn.Parameter(torch.zeros(components, *latent_shape))
        self.logits = nn.Parameter(torch.zeros(components)) if learn_weights else None

    def forward(self) -> Mixture:
        """Return ``p(z)``, batch ``[]``, event ``D``."""
        components = DiagonalNormal(self.mean, self.logvar, event_dim=self.mean.dim() - 1)
        return Mixture(components, None if self.logits is None else self.logits.log_softmax(0))


class GaussianMixturePriorConfig(PriorConfig):
    """A learned mixture of Gaussians: the baseline of VampPrior's eq. 9 (Tomczak and Welling, 2018),
    https://arxiv.org/abs/1705.07120. Needs a Monte Carlo rate, which 'auto' takes.
    """

    type: Literal["gaussian_mixture"] = "gaussian_mixture"
    components: PositiveInt = Field(10, description="number of Gaussians K")
    learn_weights: bool = Field(True, description="learn the weights; false keeps them at 1/K")
    spread: PositiveFloat = Field(1.0, description="standard deviation of the initial means; variances start at 1")

    def build(self, context: BuildContext) -> GaussianMixturePrior:
        """Return the prior."""
        return GaussianMixturePrior(context.latent_shape, self.components, self.learn_weights, self.spread)

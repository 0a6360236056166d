"""delta-VAE's AR(1) prior: latents in a sequence that no factorized posterior can match."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints
from torch.distributions.kl import register_kl
from uncollapse.config import BuildContext, PriorConfig
from uncollapse.distributions import DiagonalNormal
from uncollapse.errors import ConfigError

from .functional import ar1_alpha, ar1_committed_rate

__all__ = ["AR1Normal", "AR1Prior", "AR1PriorConfig"]

_LOG_2PI = math.log(2 * math.pi)


class AR1Normal(Distribution):
    """``z_1 ~ N(0, 1)``, ``z_t = a z_{t-1} + sqrt(1 - a²) e_t``: Razavi et al., Preventing Posterior Collapse with
    delta-VAEs (2019), on sequential latents, https://arxiv.org/abs/1901.03416. Every step has variance 1.

    Args:
        alpha: Correlation of neighbouring steps ``[C]``, one for each channel.
        latent_shape: Shape ``D``. ``(n C,)`` holds the channels of the first step, then those of the second, and so on;
            ``(C, H, W)`` the steps of each channel in raster order.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's own signature

    def __init__(self, alpha: Tensor, latent_shape: tuple[int, ...]) -> None:
        self.alpha = alpha
        super().__init__(Size(), Size(latent_shape), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Return the reals over the event's dimensions."""
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        """Zeros ``[*D]``."""
        return self.alpha.new_zeros(self.event_shape)

    @property
    def variance(self) -> Tensor:
        """Ones ``[*D]``."""
        return self.alpha.new_ones(self.event_shape)

    def sequence(self, value: Tensor) -> Tensor:
        """Return ``[..., n, C]`` for latents ``[..., *D]``."""
        if len(self.event_shape) == 1:
            return value.reshape(*value.shape[:-1], -1, len(self.alpha))
        return value.flatten(value.dim() - len(self.event_shape) + 1).transpose(-1, -2)

    def latent(self, sequence: Tensor) -> Tensor:
        """Return ``[..., *D]`` for a sequence ``[..., n, C]``."""
        ordered = sequence if len(self.event_shape) == 1 else sequence.transpose(-1, -2)
        return ordered.reshape(sequence.shape[:-2] + self.event_shape)

    def log_prob_per_dimension(self, value: Tensor) -> Tensor:
        """Return ``log p(z_t | z_{t-1})`` of every number, nats, ``[..., *D]``."""
        z = self.sequence(value)
        first = -0.5 * (z[..., :1, :].square() + _LOG_2PI)
        rest = z[..., 1:, :] - self.alpha * z[..., :-1, :]
        noise = self._noise_variance
        terms = -0.5 * (rest.square() / noise + noise.log() + _LOG_2PI)
        return self.latent(torch.cat([first, terms], -2))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ``log p(z)``, nats, ``[...]``, for ``z [..., *D]``."""
        return self.log_prob_per_dimension(value).flatten(value.dim() - len(self.event_shape)).sum(-1)

    def rsample(self, sample_shape: Any = Size()) -> Tensor:
        """Draw ``[*sample_shape, *D]``, step after step."""
        lead = Size(sample_shape)
        noise = self.sequence(torch.randn(lead + self.event_shape, dtype=self.alpha.dtype, device=self.alpha.device))
        scale = self._noise_variance.sqrt()
        steps = [noise[..., 0, :]]
        for t in range(1, noise.shape[-2]):
            steps.append(self.alpha * steps[-1] + scale * noise[..., t, :])
        return self.latent(torch.stack(steps, -2))

    has_rsample = True

    @property
    def _noise_variance(self) -> Tensor:
        return 1 - self.alpha.square()


@register_kl(DiagonalNormal, AR1Normal)  # type: ignore[untyped-decorator]
def _kl_diagonal_normal_ar1(q: DiagonalNormal, p: AR1Normal) -> Tensor:
    mean, logvar = p.sequence(q.mean), p.sequence(q.logvar)
    variance, noise = logvar.exp(), p._noise_variance
    first = mean[..., :1, :].square() + variance[..., :1, :] - 1 - logvar[..., :1, :]
    # What the step before leaves uncertain makes the step after it less predictable than a factorized posterior says.
    expected = (mean[..., 1:, :] - p.alpha * mean[..., :-1, :]).square() + p.alpha.square() * variance[..., :-1, :]
    rest = (variance[..., 1:, :] + expected) / noise - 1 - logvar[..., 1:, :] + noise.log()
    return 0.5 * (first.sum((-1, -2)) + rest.sum((-1, -2)))


class AR1Prior(nn.Module):
    """The AR(1) prior of delta-VAE, with fixed correlations: Razavi et al. (2019),
    https://arxiv.org/abs/1901.03416.

    Args:
        latent_shape: Shape ``D``, read as :class:`AR1Normal` reads it.
        alpha: Correlation of neighbouring steps: one for each channel.

    Raises:
        ConfigError: The latent is no sequence of at least two steps of so many channels.
    """

    alpha: Tensor

    def __init__(self, latent_shape: tuple[int, ...], alpha: Sequence[float]) -> None:
        super().__init__()
        channels = len(alpha)
        spatial = len(latent_shape) > 1
        size = math.prod(latent_shape)
        if size % channels or size // channels < 2 or (spatial and latent_shape[0] != channels):
            raise ConfigError(
                f"model.prior: a latent of shape {tuple(latent_shape)} is no sequence of at least two steps of "
                f"{channels} channels; allowed: (n * channels,) or (channels, H, W)"
            )
        self.latent_shape = tuple(latent_shape)
        self.register_buffer("alpha", torch.tensor(list(alpha)))

    @property
    def committed_rate(self) -> float:
        """Least rate of a factorized Gaussian posterior, nats."""
        return ar1_committed_rate(self.alpha, math.prod(self.latent_shape) // len(self.alpha))

    def forward(self) -> AR1Normal:
        """Return ``p(z)``, batch ``[]``, event ``D``."""
        return AR1Normal(self.alpha, self.latent_shape)


class AR1PriorConfig(PriorConfig):
    """delta-VAE's AR(1) prior: Razavi et al. (2019), https://arxiv.org/abs/1901.03416. With a Gaussian
    posterior, which is factorized, the rate stays above a committed one.

    ``z_1 ~ N(0, 1)``, ``z_t = a z_{t-1} + sqrt(1 - a²) e_t`` with noise ``e_t ~ N(0, 1)``.
    """

    type: Literal["baselines.ar1"] = "baselines.ar1"
    rate: PositiveFloat = Field(3.0, description="committed nats of the whole latent, where alpha is null")
    alpha: float | tuple[float, ...] | None = Field(
        None, description="correlation of neighbouring steps: one for all channels, or one for each; null: from rate"
    )
    channels: PositiveInt = Field(1, description="numbers of one step of a flat latent; a map's channels are its own")

    @field_validator("alpha")
    @classmethod
    def _correlations(cls, alpha: float | tuple[float, ...] | None) -> float | tuple[float, ...] | None:
        for value in () if alpha is None else (alpha,) if isinstance(alpha, float) else alpha:
            if not -1 < value < 1:
                raise ValueError(f"expected correlations between -1 and 1, found {value:g}")
        return alpha

    def build(self, context: BuildContext) -> AR1Prior:
        """Return the prior.

        Raises:
            ConfigError: The latent is no sequence of at least two steps.
        """
        shape = context.latent_shape
        channels = shape[0] if len(shape) > 1 else self.channels
        alpha = self.alpha
        if alpha is None:
            alpha = ar1_alpha(self.rate, max(2, math.prod(shape) // channels), channels)
        values = (alpha,) * channels if isinstance(alpha, float) else alpha
        if len(values) != channels:
            raise ConfigError(
                f"model.prior.alpha: expected one correlation, or {channels} of them, one for each channel; found "
                f"{len(values)}"
            )
        return AR1Prior(shape, values)

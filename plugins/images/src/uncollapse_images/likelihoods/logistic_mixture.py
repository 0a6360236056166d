"""The discretized mixture of logistics over bytes, with channels that depend on each other."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Size, Tensor, nn
from torch.distributions import Categorical, Distribution, constraints
from torch.nn.functional import logsigmoid, softplus
from uncollapse.config import BuildContext, LikelihoodConfig

__all__ = ["LogisticMixtureLikelihood", "LogisticMixtureLikelihoodConfig", "LogisticMixturePixels"]

_MIN_LOG_SCALE = -7.0
_DENSITY_BELOW = 1e-5
_HALF_BIN = 1 / 255  # On [-1, 1], where neighbouring bytes are 2 / 255 apart.


class LogisticMixturePixels(Distribution):
    """Bytes as a mixture of ``K`` logistics rounded to the grid: Salimans et al., PixelCNN++ (2017), eq. 1-3,
    https://arxiv.org/abs/1701.05517.

    Positions are independent. At one position a component is chosen for all channels together; within it, the mean of
    a channel is moved by the values of the channels before it, ``mean_c + sum_{j<c} coefficient_cj x_j``. Values are
    ``k / 255``; inside they are rescaled to [-1, 1], where the logistic's mass beyond an end belongs to the end's bin.
    There is no closed form of the mean.

    Args:
        logits: Of the components ``[*batch, K, *rest]``; normalized here.
        means: ``[*batch, K, C, *rest]`` for data of event shape ``X = (C, *rest)``.
        log_scales: Logarithms of the logistics' scales, the same shape; values below -7 count as -7.
        coefficients: In [-1, 1], ``[*batch, K, C (C - 1) / 2, *rest]``, in the order (1, 0), (2, 0), (2, 1), ...
        event_dim: Dimensions of ``X``.
        density_below: Where a bin between the ends has less mass than this, the density at its centre times its width
            stands for the mass, as in the released codes; probabilities then sum to one almost only. 0 for the mass
            everywhere.
    """

    arg_constraints = {"logits": constraints.real, "means": constraints.real}  # noqa: RUF012 - torch's own signature

    def __init__(
        self,
        logits: Tensor,
        means: Tensor,
        log_scales: Tensor,
        coefficients: Tensor,
        event_dim: int = 3,
        density_below: float = _DENSITY_BELOW,
    ) -> None:
        self.logits = logits
        self.means = means
        self.log_scales = log_scales.clamp(min=_MIN_LOG_SCALE)
        self.coefficients = coefficients
        self.density_below = density_below
        self._event_dim = event_dim
        cut = means.dim() - event_dim
        super().__init__(means.shape[: cut - 1], means.shape[cut:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Return the unit interval; values are read on the grid of bytes."""
        return constraints.independent(constraints.unit_interval, self._event_dim)

    def expand(self, batch_shape: Any, _instance: Any = None) -> LogisticMixturePixels:
        """Return the same distribution over a larger batch; memory is shared."""
        batch, cut = Size(batch_shape), len(self.batch_shape)
        logits, means, log_scales, coefficients = (
            t.expand(batch + t.shape[cut:]) for t in (self.logits, self.means, self.log_scales, self.coefficients)
        )
        return LogisticMixturePixels(logits, means, log_scales, coefficients, self._event_dim, self.density_below)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log probability mass in nats, ``[*batch]``, of values ``[..., *X]`` on the grid ``k / 255``."""
        level = (value.to(self.means.dtype) * 255).round().unsqueeze(-self._event_dim - 1)
        x = level / 127.5 - 1
        log_p = self._log_mass(level, x, _moved(self.means, self.coefficients, x, self._channel_dim))
        log_weights = self.logits.log_softmax(self._channel_dim)
        per_position = (log_p.sum(self._channel_dim) + log_weights).logsumexp(self._channel_dim)
        batch = per_position.shape[: per_position.dim() - self._event_dim + 1]
        return per_position.reshape(*batch, -1).sum(-1)

    @torch.no_grad()
    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Draw values ``k / 255``, ``[*sample_shape, *batch, *X]``: a component for each position, then its channels.

        PixelCNN++'s code draws the component by Gumbel noise; MAE's takes the likeliest, which is no sample.
        """
        lead = Size(sample_shape)
        dim = self._channel_dim
        # The components of a position, last: [*sample_shape, *batch, *rest].
        component = Categorical(logits=self.logits.movedim(dim, -1), validate_args=False).sample(lead)
        means, log_scales, coefficients = (
            _chosen(t, component, dim) for t in (self.means, self.log_scales, self.coefficients)
        )
        uniform = torch.rand_like(means).clamp(min=torch.finfo(means.dtype).tiny)
        noise = log_scales.exp() * (uniform.log() - torch.log1p(-uniform))
        x = torch.zeros_like(means)
        for channel in range(means.shape[dim]):
            # Channels after this one do not enter its mean, so their zeros do no harm.
            drawn = (_moved(means, coefficients, x, dim) + noise).select(dim, channel)
            # The next channel's mean is moved by the byte, as in log_prob, not by the value before rounding.
            x.select(dim, channel).copy_(((drawn.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1)
        return ((x + 1) * 127.5).round() / 255

    @property
    def _channel_dim(self) -> int:
        return -self._event_dim

    def _log_mass(self, level: Tensor, x: Tensor, means: Tensor) -> Tensor:
        """Return the log mass of every value in every component, ``[..., K, C, *rest]``."""
        inverse_scale = (-self.log_scales).exp()
        centred = (x - means) * inverse_scale
        half = _HALF_BIN * inverse_scale
        below_upper, above_lower = logsigmoid(centred + half), logsigmoid(half - centred)
        # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)): no difference of nearly equal numbers.
        inner = below_upper + above_lower + (-torch.expm1(-2 * half)).log()
        if self.density_below > 0:
            density = centred - self.log_scales - 2 * softplus(centred) + math.log(2 * _HALF_BIN)
            inner = torch.where(inner > math.log(self.density_below), inner, density)
        return torch.where(level <= 0, below_upper, torch.where(level >= 255, above_lower, inner))


def _moved(means: Tensor, coefficients: Tensor, x: Tensor, dim: int) -> Tensor:
    """Return the means of all channels given the values ``x`` of the channels before each; channels lie along ``dim``.

    Args:
        means: ``[..., C, *rest]``.
        coefficients: ``[..., C (C - 1) / 2, *rest]``.
        x: Values in [-1, 1], of a shape that broadcasts against the means.
        dim: Negative.
    """
    channels = means.shape[dim]
    if channels == 1:
        return means
    moved, pair = [means.select(dim, 0)], 0
    values = x.unbind(dim)
    for channel in range(1, channels):
        mean = means.select(dim, channel)
        for before in range(channel):
            mean = mean + coefficients.select(dim, pair) * values[before]
            pair += 1
        moved.append(mean)
    # The first channel has not met the values, whose leading dimensions may be more.
    shape = torch.broadcast_shapes(*(m.shape for m in moved))
    return torch.stack([m.expand(shape) for m in moved], dim)


def _chosen(t: Tensor, component: Tensor, dim: int) -> Tensor:
    """Return ``[*sample_shape, *batch, N, *rest]``: the chosen component's part of ``t [*batch, K, N, *rest]``.

    Args:
        t: With ``N`` along ``dim`` and the components before it.
        component: ``[*sample_shape, *batch, *rest]``.
        dim: Negative.
    """
    components_last = t.movedim(dim - 1, -1)
    index = component.unsqueeze(dim)
    shape = torch.broadcast_shapes(components_last.shape[:-1], index.shape)
    taken = components_last.expand(*shape, -1).gather(-1, index.expand(shape).unsqueeze(-1))
    return taken.squeeze(-1)


class LogisticMixtureLikelihood(nn.Module):
    """A discretized mixture of logistics for images of bytes: Salimans et al., PixelCNN++ (2017), section 2.1 and 2.2,
    https://arxiv.org/abs/1701.05517.

    It reads ``K (1 + 2 C + C (C - 1) / 2)`` numbers at each position: 10 a component for colour, 3 for grey.

    Args:
        event_shape: Shape ``X = (C, *rest)`` of the data.
        mixtures: Components ``K``.
        density_below: See :class:`LogisticMixturePixels`.
    """

    def __init__(self, event_shape: tuple[int, ...], mixtures: int = 10, density_below: float = _DENSITY_BELOW) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.mixtures = mixtures
        self.density_below = density_below
        channels = self.event_shape[0]
        self.pairs = channels * (channels - 1) // 2
        self.output_channels = mixtures * (1 + 2 * channels + self.pairs)

    def forward(self, outputs: Tensor) -> LogisticMixturePixels:
        """Return ``p(x|z)`` for ``outputs [..., output_channels, *rest]``.

        Along the channels lie ``K`` logits, then for each component ``C`` means, for each ``C`` log-scales, and for
        each ``C (C - 1) / 2`` coefficients before their tanh.
        """
        if outputs.dtype in (torch.bfloat16, torch.float16):
            outputs = outputs.float()
        k, channels, dim = self.mixtures, self.event_shape[0], -len(self.event_shape)
        logits, *parts = outputs.split([k, k * channels, k * channels, k * self.pairs], dim)
        means, log_scales, raw = (
            t.unflatten(dim, (k, n)) for t, n in zip(parts, (channels, channels, self.pairs), strict=True)
        )
        return LogisticMixturePixels(logits, means, log_scales, raw.tanh(), -dim, self.density_below)


class LogisticMixtureLikelihoodConfig(LikelihoodConfig):
    """A discretized mixture of logistics over bytes: Salimans et al., PixelCNN++ (2017), eq. 1-3,
    https://arxiv.org/abs/1701.05517.
    """

    type: Literal["logistic_mixture"] = "logistic_mixture"
    supports = frozenset({"bytes"})
    mixtures: PositiveInt = Field(10, description="components of the mixture")
    density_below: float = Field(
        _DENSITY_BELOW,
        ge=0,
        lt=1,
        description="mass of a bin below which the density stands for it, as in the released codes; 0: never",
    )

    def build(self, context: BuildContext) -> LogisticMixtureLikelihood:
        """Return the likelihood."""
        return LogisticMixtureLikelihood(context.data.event_shape, self.mixtures, self.density_below)

"""The discretised logistic likelihood of bytes."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, PositiveFloat, field_validator
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints
from torch.nn.functional import logsigmoid
from uncollapse.config import BuildContext, LikelihoodConfig

__all__ = ["LogisticLikelihood", "LogisticLikelihoodConfig", "LogisticPixels"]

_LEVELS = 256
_RELEASED_FLOOR = 1e-7


class LogisticPixels(Distribution):
    """Independent bytes: a logistic variable's mass in the bins ``[k/256, (k+1)/256)`` is the byte ``k``'s.

    Args:
        location: ``[*batch, *X]``, where [0, 1] are the bytes.
        log_scale: Logarithm of the logistic's scale, the same shape.
        event_dim: Trailing dimensions that form ``X``.
        tails: Give the outermost bytes the mass outside [0, 1], so that probabilities sum to one; else that mass is
            lost and 1e-7 is added to every byte's, as in VampPrior's released code.
    """

    arg_constraints = {"location": constraints.real, "log_scale": constraints.real}  # noqa: RUF012 - torch's signature

    def __init__(self, location: Tensor, log_scale: Tensor, event_dim: int, tails: bool = True) -> None:
        self.location, self.log_scale = torch.broadcast_tensors(location, log_scale)
        self.tails = tails
        self._event_dim = event_dim
        cut = self.location.dim() - event_dim
        super().__init__(self.location.shape[:cut], self.location.shape[cut:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Return the unit interval; values are read on the grid ``k/255``."""
        return constraints.independent(constraints.unit_interval, self._event_dim)

    @property
    def mean(self) -> Tensor:
        """Expected value in [0, 1] with the tails, ``[*batch, *X]``."""
        # The sum of P(byte >= k), one level at a time: all at once would take 255 times the memory.
        inverse = (-self.log_scale).exp()
        total = torch.zeros_like(self.location)
        for k in range(1, _LEVELS):
            total = total + ((self.location - k / _LEVELS) * inverse).sigmoid()
        return total / (_LEVELS - 1)

    def expand(self, batch_shape: Size | list[int] | tuple[int, ...], _instance: object = None) -> LogisticPixels:
        """Return the same distribution over a larger batch; memory is shared."""
        shape = Size(batch_shape) + self.event_shape
        return LogisticPixels(self.location.expand(shape), self.log_scale.expand(shape), self._event_dim, self.tails)

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = Size()) -> Tensor:
        """Draw bytes divided by 255, ``[*sample_shape, *batch, *X]``; what falls outside [0, 1] goes to the ends."""
        with torch.no_grad():
            shape = Size(sample_shape) + self.location.shape
            # Without the ends of (0, 1), where the logit is infinite.
            tiny = torch.finfo(self.location.dtype).tiny
            u = torch.rand(shape, dtype=self.location.dtype, device=self.location.device)
            drawn = self.location + self.log_scale.exp() * u.clamp(min=tiny).logit()
            byte: Tensor = (drawn * _LEVELS).floor().clamp(0, _LEVELS - 1)
            return byte / (_LEVELS - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log probability mass in nats, ``[*batch]``, of bytes divided by 255."""
        dims = tuple(range(-self._event_dim, 0))
        byte = (value.to(self.location.dtype) * _LEVELS).floor().clamp(0, _LEVELS - 1)
        inverse = (-self.log_scale).exp()
        low = (byte / _LEVELS - self.location) * inverse
        width = inverse / _LEVELS
        high = low + width
        if not self.tails:
            released: Tensor = (high.sigmoid() - low.sigmoid() + _RELEASED_FLOOR).log()
            return released.sum(dim=dims)
        # sigmoid(b) - sigmoid(a) = sigmoid(b) sigmoid(-a) (1 - exp(a - b)): no cancellation far out, hence no floor.
        # Without its tail each end lacks one factor, that of the edge which moves to infinity.
        below, above = byte > 0, byte < _LEVELS - 1
        zero = torch.zeros((), dtype=low.dtype, device=low.device)
        mass = torch.where(above, logsigmoid(high), zero) + torch.where(below, logsigmoid(-low), zero)
        mass = mass + torch.where(above & below, (-torch.expm1(-width)).log(), zero)
        return mass.sum(dim=dims)


class LogisticLikelihood(nn.Module):
    """Independent bytes by a discretised logistic: Kingma et al., Improved Variational Inference with Inverse
    Autoregressive Flow (2016), section 4.2, https://arxiv.org/abs/1606.04934, with the location and the limits of
    VampPrior's released code (Tomczak and Welling, 2018, https://arxiv.org/abs/1705.07120): a sigmoid, kept half a
    bin away from 0 and 1.

    Args:
        event_shape: Shape ``X`` of the data, bytes divided by 255.
        scale: ``per_value``: the decoder puts out a log-scale for each value; ``learned``: one log-scale shared by
            all values, a parameter; or a fixed scale.
        log_scale_range: Hard limits on a log-scale that is not fixed.
        tails: As in :class:`LogisticPixels`.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        scale: float | Literal["per_value", "learned"] = "per_value",
        log_scale_range: tuple[float, float] = (-4.5, 0.0),
        tails: bool = True,
    ) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.outputs_per_value = 2 if scale == "per_value" else 1
        self.log_scale_range = log_scale_range
        self.tails = tails
        self.log_scale: Tensor | None
        if scale == "learned":
            self.log_scale = nn.Parameter(torch.tensor(sum(log_scale_range) / 2))
        elif scale == "per_value":
            self.log_scale = None
        else:
            self.register_buffer("log_scale", torch.tensor(math.log(float(scale))))

    def forward(self, outputs: Tensor) -> LogisticPixels:
        """Return ``p(x|z)`` for outputs ``[..., outputs_per_value * C, *rest]``."""
        if outputs.dtype in (torch.bfloat16, torch.float16):
            outputs = outputs.float()
        dim = len(self.event_shape)
        raw = outputs
        if self.log_scale is None:
            raw, log_scale = outputs.chunk(2, dim=-dim)
        else:
            log_scale = self.log_scale.expand_as(outputs)
        if self.log_scale is None or isinstance(self.log_scale, nn.Parameter):
            log_scale = nn.functional.hardtanh(log_scale, *self.log_scale_range)
        half = 0.5 / _LEVELS
        return LogisticPixels(raw.sigmoid().clamp(half, 1 - half), log_scale, dim, self.tails)


class LogisticLikelihoodConfig(LikelihoodConfig):
    """A discretised logistic over bytes: Kingma et al. (2016), section 4.2, https://arxiv.org/abs/1606.04934, as in
    VampPrior (Tomczak and Welling, 2018), https://arxiv.org/abs/1705.07120.
    """

    type: Literal["logistic"] = "logistic"
    supports = frozenset({"bytes"})
    scale: PositiveFloat | Literal["per_value", "learned"] = Field(
        "per_value", description="'per_value' (from the decoder), 'learned' (one for all), or a fixed scale"
    )
    log_scale_range: tuple[float, float] = Field((-4.5, 0.0), description="hard limits on a scale that is not fixed")
    tails: bool = Field(
        True, description="count what lies outside [0, 1] to the ends; false as VampPrior's code: not normalised"
    )

    @field_validator("log_scale_range")
    @classmethod
    def _ordered(cls, limits: tuple[float, float]) -> tuple[float, float]:
        if limits[0] >= limits[1]:
            raise ValueError(f"expected [low, high] with low below high, found {list(limits)}")
        return limits

    def build(self, context: BuildContext) -> LogisticLikelihood:
        """Return the likelihood."""
        return LogisticLikelihood(context.data.event_shape, self.scale, self.log_scale_range, self.tails)

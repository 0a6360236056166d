"""Bernoulli, Gaussian and byte-categorical likelihoods.

A likelihood is a module with ``outputs_per_value``, the numbers that the decoder puts out for each value of ``x``, and
``forward(outputs) -> Distribution``. ``outputs`` is ``[..., outputs_per_value * C, *rest]`` for data of event shape
``X = (C, *rest)``: the numbers for one value are ``outputs_per_value`` blocks of ``C`` channels.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field, PositiveFloat
from torch import Size, Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, constraints

from ..component import BuildContext
from ..distributions import DiagonalNormal
from ..kinds import LikelihoodConfig

__all__ = ["BernoulliLikelihood", "BernoulliPixels", "CategoricalLikelihood", "CategoricalPixels", "GaussianLikelihood"]


_EXP_IS_FINITE = 80.0
"""In float32 too."""


def _full(outputs: Tensor) -> Tensor:
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs


class BernoulliPixels(Distribution):
    """Independent Bernoulli values from logits; ``log_prob`` also accepts probabilities in [0, 1] as data.

    Args:
        logits: ``[*batch, *X]``.
        event_dim: Trailing dimensions that form ``X``.
    """

    arg_constraints = {"logits": constraints.real}  # noqa: RUF012 - torch's own signature

    def __init__(self, logits: Tensor, event_dim: int) -> None:
        self.logits = logits
        self._event_dim = event_dim
        cut = logits.dim() - event_dim
        super().__init__(logits.shape[:cut], logits.shape[cut:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Return {0, 1} over the event's dimensions."""
        return constraints.independent(constraints.boolean, self._event_dim)

    @property
    def mean(self) -> Tensor:
        """Probabilities ``[*batch, *X]``."""
        return self.logits.sigmoid()

    @property
    def variance(self) -> Tensor:
        """Variance ``[*batch, *X]``."""
        p = self.mean
        return p * (1 - p)

    def expand(self, batch_shape: Size | list[int] | tuple[int, ...], _instance: object = None) -> BernoulliPixels:
        """Return the same distribution over a larger batch; memory is shared."""
        return BernoulliPixels(self.logits.expand(Size(batch_shape) + self.event_shape), self._event_dim)

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = Size()) -> Tensor:
        """Draw ``[*sample_shape, *batch, *X]``."""
        with torch.no_grad():
            return torch.bernoulli(self.mean.expand(Size(sample_shape) + self.logits.shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return ``x log p + (1-x) log(1-p)`` summed over ``X``, nats, ``[*batch]``."""
        dims = tuple(range(-self._event_dim, 0))
        value = value.to(self.logits.dtype)
        # By tensors: torch.broadcast_shapes imports a library for symbolic mathematics, which takes half a second.
        if not self.logits.requires_grad and torch.broadcast_tensors(value, self.logits)[1].shape == self.logits.shape:
            # One temporary instead of three: measurements take as many samples at once as memory holds.
            cost = nn.functional.softplus(self.logits, threshold=_EXP_IS_FINITE)
            return -cost.addcmul_(value, self.logits, value=-1).sum(dim=dims)
        # log sigmoid(l) + (x - 1) l: fewer passes over the data, back and forth, than x l - softplus(l).
        return torch.addcmul(nn.functional.logsigmoid(self.logits), value - 1, self.logits).sum(dim=dims)


class BernoulliLikelihood(nn.Module):
    """Independent Bernoulli values from logits: Kingma and Welling (2014), appendix C.1.

    Args:
        event_shape: Shape ``X`` of the data.
        clamp: Keep probabilities inside ``[clamp, 1 - clamp]``, without gradient outside, as the released codes of
            VampPrior (Tomczak and Welling, 2018, https://arxiv.org/abs/1705.07120), MIM and SA-VAE do with 1e-5. A
            value then costs at most ``-log clamp`` nats. None for no limit.
    """

    outputs_per_value = 1

    def __init__(self, event_shape: tuple[int, ...], clamp: float | None = None) -> None:
        super().__init__()
        self.event_shape = event_shape
        # On logits the limits are the same, and exact: 1 - 1e-5 has three digits left in float32.
        self.max_logit = None if clamp is None else math.log1p(-clamp) - math.log(clamp)

    def forward(self, outputs: Tensor) -> BernoulliPixels:
        """Return ``p(x|z)`` for logits ``[..., *X]``."""
        logits = _full(outputs)
        if self.max_logit is not None:
            logits = logits.clamp(-self.max_logit, self.max_logit)
        return BernoulliPixels(logits, len(self.event_shape))


class GaussianLikelihood(nn.Module):
    """Independent Gaussian values with a learned or fixed scale: Kingma and Welling (2014), appendix C.2.

    Args:
        event_shape: Shape ``X`` of the data.
        scale: ``per_value``: the decoder puts out a log-variance for each value; ``learned``: one log-variance
            shared by all values, a parameter; or a fixed standard deviation.
        min_scale: Standard deviation below which the scale is clipped.
        mean: ``linear``: the outputs themselves; ``sigmoid``: of them, for values in [0, 1]. At a fixed scale
            of sqrt(1/2) the distortion is the squared error, and a constant.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        scale: float | Literal["per_value", "learned"] = "learned",
        min_scale: float = 1e-3,
        mean: Literal["linear", "sigmoid"] = "linear",
    ) -> None:
        super().__init__()
        self.mean = mean
        self.event_shape = event_shape
        self.outputs_per_value = 2 if scale == "per_value" else 1
        self.min_logvar = 2 * math.log(min_scale)
        self.logvar: Tensor | None
        if scale == "learned":
            self.logvar = nn.Parameter(torch.zeros(()))
        elif scale == "per_value":
            self.logvar = None
        else:
            self.register_buffer("logvar", torch.tensor(2 * math.log(float(scale))))

    def forward(self, outputs: Tensor) -> DiagonalNormal:
        """Return ``p(x|z)`` for outputs ``[..., outputs_per_value * C, *rest]``."""
        outputs = _full(outputs)
        if self.logvar is None:
            mean, logvar = outputs.chunk(2, dim=-len(self.event_shape))
        else:
            mean, logvar = outputs, self.logvar.expand_as(outputs)
        mean = mean.sigmoid() if self.mean == "sigmoid" else mean
        return DiagonalNormal(mean, logvar.clamp(min=self.min_logvar), event_dim=len(self.event_shape))


class CategoricalPixels(Distribution):
    """Independent categorical values over ``K`` levels of the grid ``k / (K - 1)``.

    Args:
        logits: ``[*batch, *X, K]``.
    """

    arg_constraints = {"logits": constraints.real_vector}  # noqa: RUF012 - torch's own signature

    def __init__(self, logits: Tensor, event_dim: int) -> None:
        self._levels = logits.shape[-1]
        self._event_dim = event_dim
        self._base = Independent(Categorical(logits=logits, validate_args=False), event_dim, validate_args=False)
        super().__init__(self._base.batch_shape, self._base.event_shape, validate_args=False)

    @property
    def logits(self) -> Tensor:
        """Normalised log-probabilities ``[*batch, *X, K]``."""
        logits: Tensor = self._base.base_dist.logits
        return logits

    @property
    def support(self) -> constraints.Constraint:
        """Return the unit interval; values are read on the grid of levels."""
        return constraints.independent(constraints.unit_interval, self._event_dim)

    @property
    def mean(self) -> Tensor:
        """Expected value in [0, 1], ``[*batch, *X]``."""
        grid = torch.linspace(0, 1, self._levels, device=self.logits.device, dtype=self.logits.dtype)
        return (self.logits.exp() * grid).sum(-1)

    def expand(self, batch_shape: Size | list[int] | tuple[int, ...], _instance: object = None) -> CategoricalPixels:
        """Return the same distribution over a larger batch; memory is shared."""
        shape = Size(batch_shape) + self.event_shape + Size((self._levels,))
        return CategoricalPixels(self.logits.expand(shape), self._event_dim)

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = Size()) -> Tensor:
        """Draw values ``k / (K - 1)``, ``[*sample_shape, *batch, *X]``."""
        return self._base.sample(Size(sample_shape)).to(self.logits.dtype) / (self._levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log probability mass in nats, ``[*batch]``, of values on the grid ``k / (K - 1)``."""
        log_prob: Tensor = self._base.log_prob((value * (self._levels - 1)).round())
        return log_prob


class CategoricalLikelihood(nn.Module):
    """A softmax over the 256 values of a byte: van den Oord et al., Pixel Recurrent Neural Networks (2016), section
    3.1, https://arxiv.org/abs/1601.06759. Data are bytes divided by 255.

    Args:
        event_shape: Shape ``X`` of the data.
        levels: Number of values, 256 for bytes.
    """

    def __init__(self, event_shape: tuple[int, ...], levels: int = 256) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.outputs_per_value = levels

    def forward(self, outputs: Tensor) -> CategoricalPixels:
        """Return ``p(x|z)`` for outputs ``[..., levels * C, *rest]``."""
        dim = len(self.event_shape)
        logits = _full(outputs).unflatten(-dim, (self.outputs_per_value, self.event_shape[0]))
        return CategoricalPixels(logits.movedim(-dim - 1, -1), dim)


class BernoulliLikelihoodConfig(LikelihoodConfig):
    """Bernoulli from logits: Kingma and Welling (2014), appendix C.1; accepts grey values as probabilities."""

    type: Literal["bernoulli"] = "bernoulli"
    supports = frozenset({"binary", "unit_interval"})
    clamp: float | None = Field(
        None, gt=0, lt=0.5, description="keep probabilities inside [clamp, 1 - clamp]; VampPrior's code: 1e-5"
    )

    def build(self, context: BuildContext) -> BernoulliLikelihood:
        """Return the likelihood."""
        return BernoulliLikelihood(context.data.event_shape, self.clamp)


class GaussianLikelihoodConfig(LikelihoodConfig):
    """Gaussian with a learned or fixed scale: Kingma and Welling (2014), appendix C.2."""

    type: Literal["gaussian"] = "gaussian"
    supports = frozenset({"binary", "unit_interval", "bytes", "real"})
    scale: PositiveFloat | Literal["per_value", "learned"] = Field(
        "learned", description="'learned' (one for all), 'per_value' (from the decoder), or a fixed standard deviation"
    )
    min_scale: float = Field(1e-3, gt=0, description="standard deviation below which a learned one cannot fall")
    mean: Literal["linear", "sigmoid"] = Field(
        "linear", description="the decoder's outputs themselves, or their sigmoid, for values in [0, 1]"
    )

    def build(self, context: BuildContext) -> GaussianLikelihood:
        """Return the likelihood."""
        return GaussianLikelihood(context.data.event_shape, self.scale, self.min_scale, self.mean)


class CategoricalLikelihoodConfig(LikelihoodConfig):
    """A softmax over byte values: van den Oord et al. (2016), section 3.1, https://arxiv.org/abs/1601.06759."""

    type: Literal["categorical"] = "categorical"
    supports = frozenset({"binary", "bytes"})
    levels: int = Field(256, ge=2, description="values that a channel may take: k / (levels - 1)")

    def build(self, context: BuildContext) -> CategoricalLikelihood:
        """Return the likelihood."""
        return CategoricalLikelihood(context.data.event_shape, self.levels)

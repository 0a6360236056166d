"""Encoders and decoders whose conditionals are mixtures of Gaussians, sampled with a gradient."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints
from uncollapse.config import BuildContext, LikelihoodConfig, PosteriorConfig
from uncollapse.errors import ConfigError
from uncollapse.protocols import Progress

__all__ = [
    "GaussianMixture",
    "MixtureLikelihood",
    "MixtureLikelihoodConfig",
    "MixturePosterior",
    "MixturePosteriorConfig",
]

_LOG_2PI = math.log(2 * math.pi)


class GaussianMixture(Distribution):
    """``sum_k w_k N(mean_k, diag(exp(logvar_k)))`` over vectors, with a reparameterized ``rsample``.

    Samples are drawn component first. Their gradient is that of the inverse distribution function, one dimension after
    the other given those before it: Graves, Stochastic Backpropagation through Mixture Density Distributions (2016),
    section 3, https://arxiv.org/abs/1607.05690. It is unbiased; where a density has all but vanished it is noisy.

    Args:
        logits: Unnormalised log-weights ``[*batch, K]``.
        mean: ``[*batch, K, D]``.
        logvar: ``[*batch, K, D]``.
    """

    arg_constraints = {"logits": constraints.real, "mean": constraints.real, "logvar": constraints.real}  # noqa: RUF012
    has_rsample = True

    def __init__(self, logits: Tensor, mean: Tensor, logvar: Tensor) -> None:
        self.log_weights, self.means, self.logvars = logits.log_softmax(-1), mean, logvar
        super().__init__(mean.shape[:-2], mean.shape[-1:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Return the reals, over the event."""
        return constraints.real_vector

    @property
    def mean(self) -> Tensor:
        """Mean ``[*batch, D]``."""
        return (self.log_weights.exp().unsqueeze(-1) * self.means).sum(-2)

    @property
    def variance(self) -> Tensor:
        """Variance of every dimension ``[*batch, D]``."""
        second = self.logvars.exp() + (self.means - self.mean.unsqueeze(-2)).square()
        return (self.log_weights.exp().unsqueeze(-1) * second).sum(-2)

    def expand(self, batch_shape: Any, _instance: Any = None) -> GaussianMixture:
        """Return the same distribution over a larger batch; memory is shared."""
        batch = Size(batch_shape)
        log_weights, means, logvars = (
            t.expand(batch + t.shape[len(self.batch_shape) :]) for t in (self.log_weights, self.means, self.logvars)
        )
        return GaussianMixture(log_weights, means, logvars)

    def sample(self, sample_shape: Any = Size()) -> Tensor:
        """Draw ``[*sample_shape, *batch, D]``."""
        with torch.no_grad():
            return self._draw(Size(sample_shape))

    def rsample(self, sample_shape: Any = Size()) -> Tensor:
        """Draw reparameterized samples ``[*sample_shape, *batch, D]``."""
        drawn = self.sample(sample_shape)
        deviation = (0.5 * self.logvars).exp()
        # log w_k + log N(x_<d; k) up to a common constant: what is known of the component from the dimensions before d.
        log_weights = self.log_weights.expand(drawn.shape[:-1] + self.log_weights.shape[-1:])
        values: list[Tensor] = []
        for d in range(drawn.shape[-1]):
            x = drawn[..., d : d + 1]
            scaled = (x - self.means[..., d]) / deviation[..., d]
            weights = log_weights.softmax(-1)
            below = (weights * torch.special.ndtr(scaled)).sum(-1, keepdim=True)
            density = (weights * (-0.5 * (scaled.square() + _LOG_2PI)).exp() / deviation[..., d]).sum(-1, keepdim=True)
            # The sample as a function of everything else, held where its distribution function is what it is.
            slope = density.detach().clamp(min=torch.finfo(x.dtype).tiny)
            value = x - (below - below.detach()) / slope
            values.append(value)
            scaled = (value - self.means[..., d]) / deviation[..., d]
            log_weights = log_weights - 0.5 * (scaled.square() + self.logvars[..., d])
        return torch.cat(values, dim=-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density in nats, ``[...]`` for values ``[..., D]``."""
        scaled = (value.unsqueeze(-2) - self.means) * (-0.5 * self.logvars).exp()
        components = -0.5 * (scaled.square() + self.logvars + _LOG_2PI).sum(-1)
        return (self.log_weights + components).logsumexp(-1)

    def _draw(self, shape: Size) -> Tensor:
        batch = shape + self.batch_shape
        weights = self.log_weights.exp().expand(batch + self.log_weights.shape[-1:])
        chosen = torch.multinomial(weights.reshape(-1, weights.shape[-1]), 1).reshape(*batch, 1, 1)
        mean, logvar = (
            t.expand(batch + t.shape[-2:]).gather(-2, chosen.expand(*batch, 1, t.shape[-1])).squeeze(-2)
            for t in (self.means, self.logvars)
        )
        return mean + (0.5 * logvar).exp() * torch.randn_like(mean)


class MixturePosterior(nn.Module):
    """``q(z|x) = sum_k w_k N(z; mean_k, diag(std_k²))`` with linear heads: Livne et al., MIM (2019), appendix E.2,
    https://arxiv.org/abs/1910.03175.

    Args:
        feature_shape: Shape ``H`` of the encoder's features, flattened.
        latent_dim: Dimension ``D``.
        components: Number of Gaussians ``K``.
        min_scale: Standard deviation below which it is clipped.
    """

    def __init__(
        self, feature_shape: tuple[int, ...], latent_dim: int, components: int = 10, min_scale: float = 1e-6
    ) -> None:
        super().__init__()
        self.latent_shape = (latent_dim,)
        self.components, self.min_logvar = components, 2 * math.log(min_scale)
        self.head = nn.Linear(math.prod(feature_shape), components * (1 + 2 * latent_dim))

    def forward(self, h: Tensor, progress: Progress | None = None) -> GaussianMixture:
        """Return ``q(z|x)``, batch ``[B]``, event ``(D,)``, for features ``h [B, *H]``."""
        return _mixture(self.head(h.flatten(1)), self.components, self.min_logvar)


class MixtureLikelihood(nn.Module):
    """``p(x|z)`` of vectors as a mixture of Gaussians over all of ``x``: Livne et al., MIM (2019), appendix E.2,
    https://arxiv.org/abs/1910.03175.

    Args:
        event_shape: Shape ``X = (D,)`` of the data.
        components: Number of Gaussians ``K``.
        min_scale: Standard deviation below which it is clipped.

    Raises:
        ConfigError: The data are no vectors.
    """

    def __init__(self, event_shape: tuple[int, ...], components: int = 10, min_scale: float = 1e-6) -> None:
        super().__init__()
        if len(event_shape) != 1:
            raise ConfigError(
                f"model.decoder.likelihood: 'mim.gaussian_mixture' is one of vectors, found data of shape {event_shape}"
                "; use 'gaussian', or 'logistic_mixture' for images of bytes"
            )
        self.components, self.min_logvar = components, 2 * math.log(min_scale)
        self.output_channels = components * (1 + 2 * event_shape[0])

    def forward(self, outputs: Tensor) -> GaussianMixture:
        """Return ``p(x|z)`` for outputs ``[..., K (1 + 2 D)]``."""
        return _mixture(outputs, self.components, self.min_logvar)


def _mixture(outputs: Tensor, components: int, min_logvar: float) -> GaussianMixture:
    outputs = outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
    logits, moments = outputs[..., :components], outputs[..., components:]
    mean, logvar = moments.unflatten(-1, (components, -1)).chunk(2, dim=-1)
    return GaussianMixture(logits, mean, logvar.clamp(min=min_logvar))


class MixturePosteriorConfig(PosteriorConfig):
    """A mixture of Gaussians: Livne et al., MIM (2019), appendix E.2, https://arxiv.org/abs/1910.03175. Needs a Monte
    Carlo rate, which 'auto' takes.
    """

    type: Literal["mim.gaussian_mixture"] = "mim.gaussian_mixture"
    latent_dim: PositiveInt = Field(description="latent dimension D", examples=[2])
    components: PositiveInt = Field(10, description="number of Gaussians K")
    min_scale: PositiveFloat = Field(1e-6, description="standard deviation below which it is clipped")

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape ``D`` of one latent."""
        return (self.latent_dim,)

    def build(self, context: BuildContext) -> MixturePosterior:
        """Return the posterior."""
        return MixturePosterior(context.feature_shape, self.latent_dim, self.components, self.min_scale)


class MixtureLikelihoodConfig(LikelihoodConfig):
    """A mixture of Gaussians over vectors: Livne et al., MIM (2019), appendix E.2, https://arxiv.org/abs/1910.03175."""

    type: Literal["mim.gaussian_mixture"] = "mim.gaussian_mixture"
    supports = frozenset({"real"})
    components: PositiveInt = Field(10, description="number of Gaussians K")
    min_scale: PositiveFloat = Field(1e-6, description="standard deviation below which it is clipped")

    def build(self, context: BuildContext) -> MixtureLikelihood:
        """Return the likelihood.

        Raises:
            ConfigError: The data are no vectors.
        """
        return MixtureLikelihood(context.data.event_shape, self.components, self.min_scale)

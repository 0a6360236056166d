"""Where ``log q(x)`` and ``log p(z)`` come from: a density with parameters or without, or a marginal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext, PriorConfig
from uncollapse.errors import ConfigError
from uncollapse.inference import Inference
from uncollapse.model import LatentVariableModel
from uncollapse.protocols import Bindable, DataSpec
from uncollapse_latents.distributions import TwoLevel

from .functional import Warmup, marginal_log_density

__all__ = ["DecodeDensity", "LatentDensity", "LogDensities", "annealed_log_prior", "data_density", "log_density_of"]

DecodeDensity = Literal["generating", "reencoded"]
LatentDensity = Literal["model", "marginal"]


@dataclass(frozen=True)
class LogDensities:
    """The four log densities of pairs ``(x, z)``, nats, all of one shape.

    Args:
        log_q_z: ``log q(z|x)``.
        log_q_x: ``log q(x)``.
        log_p_x: ``log p(x|z)``.
        log_p_z: ``log p(z)``.
    """

    log_q_z: Tensor
    log_q_x: Tensor
    log_p_x: Tensor
    log_p_z: Tensor

    @classmethod
    def of_encoded(
        cls,
        inference: Inference,
        q_x: Distribution | None,
        latent: LatentDensity = "model",
        beta: float = 1.0,
        warmup: Warmup = "paper",
    ) -> LogDensities:
        """Return those of an encoded pair, ``x ~ P(x)`` and ``z ~ q(z|x)``, each ``[S, B]``.

        Args:
            inference: The pass over the data.
            q_x: Density of the data; None for the marginal of the decoder, eq. 23, estimated by importance sampling
                with the sample at hand.
            latent: ``model``: the model's prior; ``marginal``: ``p(z) = E_q(x)[q(z|x)]``, estimated by the ``x`` that
                the sample was drawn for.
            beta: Weight of the warm-up.
            warmup: Where it stands; only ``released_image`` reaches into the prior.
        """
        log_q_z, log_p_x = inference.log_q, inference.log_p_x
        if latent == "marginal":
            log_p_z = log_q_z
        elif warmup == "released_image":
            log_p_z = annealed_log_prior(inference.p_z, inference.z, beta)
        else:
            log_p_z = inference.log_p_z
        if q_x is None:
            log_q_x = marginal_log_density(log_p_x, log_p_z, log_q_z)
        else:
            log_q_x = q_x.log_prob(inference.x).expand_as(log_p_x)
        return cls(log_q_z, log_q_x, log_p_x, log_p_z)


def annealed_log_prior(p_z: Distribution, z: Tensor, beta: float) -> Tensor:
    """Return ``log p(z1|z2) + beta * log p(z2)`` for ``z [..., *D]``, nats, ``[...]``, as the released image code.

    A prior without levels is all top.
    """
    if not isinstance(p_z, TwoLevel):
        return beta * p_z.log_prob(z)
    bottom, top = p_z.split(z)
    return p_z.bottom(top).log_prob(bottom) + beta * p_z.top.log_prob(top)


def data_density(config: PriorConfig, context: BuildContext) -> nn.Module:
    """Return a prior's module built over the data's space: ``density() -> q(x)``, batch ``[]``, event ``X``.

    The roles of data and latents are exchanged, so a VampPrior becomes a mixture of ``p(x|z)`` at learned
    pseudo-latents; see :func:`log_density_of`.

    Raises:
        ConfigError: The data are discrete, and the prior is a density over real numbers.
    """
    data = context.data
    exchanged = replace(
        context,
        data=DataSpec(context.latent_shape, "real"),
        latent_shape=data.event_shape,
        latent_levels=(),
        feature_shape=(),
    )
    module: nn.Module = config.build(exchanged)
    if data.support in ("binary", "bytes", "tokens") and not supports(module, Bindable):
        raise ConfigError(
            f"objective.q_x: {config.type!r} is a density over real numbers, but the data are {data.support}, whose "
            "likelihood is a mass; leave q_x out (the decoder's marginal), or use {type: vampprior, from_data: false}"
        )
    return module


def log_density_of(q_x: nn.Module | None, model: LatentVariableModel) -> Distribution | None:
    """Return the density of the data, wired to the model's decoder where it asks for that; None for the marginal."""
    if q_x is None:
        return None
    if supports(q_x, Bindable):
        q_x.bind(model.generate)
    density: Distribution = cast(Any, q_x)()
    return density

"""Adversarial VAE: a discriminator tells codes from draws of the prior."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Literal, cast, get_args

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call
from torch.nn.functional import softplus
from uncollapse.config import BuildContext, Installed, OptimizerConfig
from uncollapse.errors import ConfigError
from uncollapse.inference import Inference

from .divergence import Divergence, DivergenceConfig, Measured, draw_prior

__all__ = ["AdversarialDivergence", "AdversarialDivergenceConfig", "Discriminator"]

Variant = Literal["non_saturating", "jensen_shannon"]


class Discriminator(nn.Module):
    """Fully connected layers from a code to the logit that it was drawn from the prior.

    Makhzani et al., Adversarial Autoencoders (2016), appendix A, https://arxiv.org/abs/1511.05644.

    Args:
        latent_size: Numbers in one code, ``K``.
        hidden: Widths of the hidden layers.
    """

    def __init__(self, latent_size: int, hidden: Sequence[int] = (1000, 1000)) -> None:
        super().__init__()
        sizes = [latent_size, *hidden]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.LeakyReLU(0.2)]
        self.net = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(self, codes: Tensor) -> Tensor:
        """Return logits ``[...]`` for codes ``[..., K]``."""
        logits: Tensor = self.net(codes).squeeze(-1)
        return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


class AdversarialDivergence(Divergence):
    """``lambda`` times the Jensen-Shannon divergence of ``q(z)`` and ``p(z)``, as a discriminator sees it.

    Zhao et al., InfoVAE (2017), section 4.1.1, https://arxiv.org/abs/1706.02262v1, after Makhzani et al., Adversarial
    Autoencoders (2016), https://arxiv.org/abs/1511.05644. With ``T`` the discriminator's logit for the prior,

    * ``non_saturating``: ``-E_q log sigmoid(T)``, whose gradient stays alive while the discriminator wins: Goodfellow
      et al., Generative Adversarial Nets (2014), section 3, https://arxiv.org/abs/1406.2661;
    * ``jensen_shannon``: ``log 2 + (E_p log sigmoid(T) + E_q log sigmoid(-T)) / 2``, the bound on the divergence that
      the paper minimises. It saturates.

    The discriminator minimises ``-(E_p log sigmoid(T) + E_q log sigmoid(-T)) / 2`` with an optimizer of its own, one
    step after each step of the model. The model's step gives it no gradient, nor does its step one to the model, also
    in a loop of one's own. The paper finds that its learning rate has to be small.

    Args:
        latent_size: Numbers in one code.
        weight: ``lambda``, which the paper does not state.
        variant: What the encoder minimises.
        hidden: Widths of the discriminator's hidden layers.
        adversary_lr: Its learning rate, for the Adam that it gets by default.
        optimizer: Makes another optimizer of its parameters.
        alpha: Of the later family; 1 leaves the rate out.

    Raises:
        ConfigError: A weight or a name is out of range.
    """

    name = "infovae.adversarial"
    pairs = False

    def __init__(
        self,
        latent_size: int,
        weight: float = 10.0,
        variant: Variant = "non_saturating",
        hidden: Sequence[int] = (1000, 1000),
        adversary_lr: float = 1e-4,
        optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] | None = None,
        alpha: float = 1.0,
    ) -> None:
        super().__init__(weight, alpha)
        if variant not in get_args(Variant):
            raise ConfigError(f"{self.name}: variant must be one of {', '.join(get_args(Variant))}; found {variant!r}")
        self.variant = variant
        self.adversary: nn.Module = Discriminator(latent_size, hidden)
        self.adversary_lr = adversary_lr
        self.adversary_optimizer = optimizer

    def measure(self, z: Tensor, p_z: Distribution) -> Measured:
        """Return what the encoder minimises for codes ``z [S, B, *D]``; nothing reaches the discriminator."""
        fixed = {name: p.detach() for name, p in self.adversary.named_parameters()}
        codes = z.flatten(2)
        prior = draw_prior(p_z, codes.shape[0] * codes.shape[1]).flatten(1)
        of_codes, of_prior = (cast(Tensor, functional_call(self.adversary, fixed, (t,))) for t in (codes, prior))
        divergence = math.log(2) - (softplus(-of_prior).mean() + softplus(of_codes).mean()) / 2
        non_saturating = softplus(-of_codes).mean()
        value = divergence if self.variant == "jensen_shannon" else non_saturating
        terms = {"jensen_shannon": divergence.detach(), "non_saturating": non_saturating.detach()}
        return Measured(value, terms)

    def adversary_loss(self, inference: Inference | Tensor, p_z: Distribution | None = None) -> Tensor:
        """Return the discriminator's cross entropy on codes and as many fresh draws of the prior, nats, a scalar.

        Args:
            inference: A pass through the model, or samples of the posteriors ``[B, *D]``.
            p_z: Prior of such samples; by default a standard Gaussian.
        """
        z, p_z = self._codes(inference, p_z)
        codes = z.detach().flatten(2)
        prior = p_z.sample(torch.Size((codes.shape[0] * codes.shape[1],))).detach().flatten(1)
        return (softplus(-self.adversary(prior)).mean() + softplus(self.adversary(codes)).mean()) / 2

    def extra_repr(self) -> str:
        """Return weights, variant and learning rate."""
        return f"{super().extra_repr()}, variant={self.variant!r}, adversary_lr={self.adversary_lr:g}"


class AdversarialDivergenceConfig(DivergenceConfig):
    """A discriminator between codes and prior: Zhao et al. (2017), section 4.1.1, https://arxiv.org/abs/1706.02262v1,
    after Makhzani et al. (2016), https://arxiv.org/abs/1511.05644.
    """

    type: Literal["infovae.adversarial"] = "infovae.adversarial"
    weight: PositiveFloat = Field(10.0, description="lambda; the paper does not state it")
    variant: Variant = Field(
        "non_saturating", description="what the encoder minimises; jensen_shannon is the bound itself, and saturates"
    )
    hidden: tuple[PositiveInt, ...] = Field((1000, 1000), description="widths of the discriminator's hidden layers")
    optimizer: Annotated[OptimizerConfig, Installed("optimizer")] = Field(
        default_factory=lambda: {"type": "adam", "lr": 1e-4},
        validate_default=True,
        description="of the discriminator; its rate should be small",
    )

    def build(self, context: BuildContext) -> AdversarialDivergence:
        """Return the regularizer."""
        return AdversarialDivergence(
            context.latent_size,
            self.weight,
            self.variant,
            self.hidden,
            self.optimizer.lr,
            self.optimizer.build,
            self.alpha,
        )

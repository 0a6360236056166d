"""The regularizer, and its place in a pipeline."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from pydantic import Field, NonNegativeFloat
from torch import nn
from torch.distributions import Distribution
from uncollapse.config import BuildContext, RegularizerConfig
from uncollapse.distributions import DiagonalNormal
from uncollapse.errors import ConfigError, ShapeError
from uncollapse.inference import Inference
from uncollapse.protocols import Penalty

from .functional import diverse_paper, diverse_released, mutual_posterior_divergence, smooth_std
from .shared_flow import depends_on_example, is_flow, require_gaussian_base

__all__ = ["MutualDivergence", "MutualDivergenceConfig"]

Variant = Literal["paper", "released"]
_TYPE = "mae.mutual_divergence"
_PLACE = f"regularizers ({_TYPE})"


class MutualDivergence(nn.Module):
    """Mutual posterior-divergence regularization: ``eta * L_diverse + gamma * L_smooth`` (eq. 7), nats per example.

    Ma, Zhou and Hovy, MAE (ICLR 2019), https://arxiv.org/abs/1901.01498. ``L_diverse`` (eq. 5, estimated by eq. 8)
    pushes the posteriors of a batch apart; ``L_smooth`` (eq. 6), the standard deviation of their mutual divergences,
    keeps them evenly spread. Gradients flow into both members of every pair. Under data parallelism the pairs are
    those of the global batch.

    A posterior flow that all examples share leaves divergences as they are between its Gaussian bases, so the bases
    are compared; a flow that depends on the example does not, and is refused.

    Args:
        eta: Weight of ``L_diverse``; 0 leaves it out.
        gamma: Weight of ``L_smooth``; 0 leaves it out.
        variant: ``paper``: the softplus of every pair, averaged (eq. 8). ``released``: the softplus of the average,
            as the released code computes it; never larger, and blind to close pairs once the average is large.

    Raises:
        ConfigError: A weight is negative, or the variant is none of these.

    >>> q = torch.distributions.Normal(torch.tensor([[0.0], [1.0]]), torch.ones(2, 1))
    >>> penalty = MutualDivergence(eta=1.0, gamma=0.5)(q)
    >>> {name: round(term.item(), 3) for name, term in penalty.terms.items()}
    {'mutual_posterior_divergence': 0.5, 'diverse': 0.474, 'smooth': 0.0}
    """

    def __init__(self, eta: float = 1.0, gamma: float = 0.5, variant: Variant = "paper") -> None:
        super().__init__()
        if eta < 0 or gamma < 0:
            raise ConfigError(f"{_TYPE}: eta and gamma must not be negative; found eta={eta}, gamma={gamma}")
        if variant not in get_args(Variant):
            raise ConfigError(f"{_TYPE}: variant must be one of {', '.join(get_args(Variant))}; found {variant!r}")
        self.eta, self.gamma, self.variant = eta, gamma, variant
        # A flow may be made to start as if it read nothing, so it is looked at again after the first steps; not at
        # every step, because the answer has to leave the device.
        self._flow_checks_left = 4

    def forward(self, inference: Inference | Distribution) -> Penalty:
        """Return the penalty, with terms ``diverse``, ``smooth`` and ``mutual_posterior_divergence`` (eq. 4), scalars.

        Args:
            inference: A pass through the model, or a posterior with batch ``[B]``: a ``DiagonalNormal``, a torch
                ``Normal`` with moments ``[B, K]``, or a flow over one that all examples share.

        Raises:
            ConfigError: The posterior has no diagonal Gaussian base, or its flow depends on the example.
            ShapeError: The posterior's batch is not ``[B]``, or holds fewer than two examples.
        """
        base = self._base(inference)
        mean, logvar = base.mean, base.logvar
        with torch.no_grad():
            terms = {"mutual_posterior_divergence": mutual_posterior_divergence(mean, logvar)}
        total = terms["mutual_posterior_divergence"].new_zeros(())
        if self.eta > 0:
            diverse = diverse_paper if self.variant == "paper" else diverse_released
            terms["diverse"] = diverse(mean, logvar)
            total = total + self.eta * terms["diverse"]
        if self.gamma > 0:
            terms["smooth"] = smooth_std(mean, logvar)
            total = total + self.gamma * terms["smooth"]
        return Penalty(total, terms)

    def extra_repr(self) -> str:
        """Return the weights and the variant."""
        return f"eta={self.eta}, gamma={self.gamma}, variant={self.variant!r}"

    def _base(self, inference: Inference | Distribution) -> DiagonalNormal:
        q = inference.q if isinstance(inference, Inference) else inference
        base = require_gaussian_base(q, _PLACE)
        if isinstance(inference, Inference):
            base = inference.gathered().base or base
        if len(base.batch_shape) != 1:
            raise ShapeError(
                f"{_PLACE}: expected a posterior with batch [B] and event D, found batch "
                f"{list(base.batch_shape)} and event {list(base.event_shape)}"
            )
        if base.batch_shape[0] < 2:
            raise ShapeError(
                f"{_PLACE}: a batch of {base.batch_shape[0]} example has no pairs; use a larger "
                "data.batch_size, or training.drop_last: true where the last batch of an epoch is the short one"
            )
        if is_flow(q) and self._flow_checks_left:
            self._flow_checks_left -= 1
            if depends_on_example(q, _PLACE):
                raise ConfigError(
                    f"{_PLACE}: the posterior's flow depends on the example, so divergences between posteriors are not "
                    "those of their Gaussian bases; use a flow that all examples share, or model.posterior: "
                    "{type: gaussian}"
                )
        return base


class MutualDivergenceConfig(RegularizerConfig):
    """Mutual posterior-divergence regularization: Ma et al., MAE (2019), eq. 5 to 8, https://arxiv.org/abs/1901.01498."""

    type: Literal["mae.mutual_divergence"] = "mae.mutual_divergence"
    eta: NonNegativeFloat = Field(1.0, description="weight of L_diverse; the paper takes 0.5, 1 or 2")
    gamma: NonNegativeFloat = Field(0.5, description="weight of L_smooth; the paper takes 0.1 to 2")
    variant: Variant = Field("paper", description="eq. 8 as printed, or as the released code computes it")

    def build(self, context: BuildContext) -> MutualDivergence:
        """Return the regularizer."""
        return MutualDivergence(self.eta, self.gamma, self.variant)

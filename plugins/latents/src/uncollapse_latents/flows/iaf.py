"""The inverse autoregressive flow with gated updates: parallel sampling, sequential inversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.distributions import Transform, constraints
from torch.nn.functional import logsigmoid
from uncollapse.distributions import DiagonalNormal

from .conditional_made import ConditionalMADE
from .zuko_names import NormalizingFlow

__all__ = ["GatedStep", "InverseAutoregressiveFlow", "InverseAutoregressiveTransform"]


class GatedStep(nn.Module):
    """What one update reads: ``m`` and ``s`` of ``z <- sigmoid(s) z + (1 - sigmoid(s)) m``.

    Kingma et al., Improved Variational Inference with Inverse Autoregressive Flow (2016), eq. 13 and 14,
    https://arxiv.org/abs/1606.04934. ``s`` has a learned bias of its own that starts at +2, which makes the step begin
    near the identity (the paper's "forget gate" of +1 or +2).

    Args:
        features: Dimension ``D``.
        hidden: Width of the hidden layers.
        hidden_layers: How many there are.
        context: Size ``K`` of the context; 0 for none.
        degrees: See :class:`~uncollapse_latents.flows.ConditionalMADE`.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        hidden_layers: int = 2,
        context: int = 0,
        degrees: Sequence[Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.made = ConditionalMADE(features, hidden, hidden_layers, 2, context, degrees)
        self.gate_bias = nn.Parameter(torch.full((features,), 2.0))

    def forward(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return ``m`` and ``s``, ``[..., D]`` each in ``z``'s precision, for ``z [..., D]``, context ``[..., K]``."""
        m, s = self.made(z, context).to(z.dtype).unbind(-2)
        return m, s + self.gate_bias


class InverseAutoregressiveTransform(Transform):
    """``eps -> z``: gated autoregressive steps, the features reversed after each, the last included.

    Kingma et al. (2016), eq. 9-10 and algorithm 1, https://arxiv.org/abs/1606.04934. Calling it takes one pass a step;
    its inverse goes through the features one by one, and is exact.

    Args:
        steps: The networks, in order.
        context: Features ``[*batch, K]`` that all steps read, or None.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, steps: Sequence[nn.Module], context: Tensor | None = None) -> None:
        super().__init__()
        self.steps = steps
        self.context = context

    def _call(self, eps: Tensor) -> Tensor:
        return self.call_and_log_scales(eps)[0]

    def _inverse(self, z: Tensor) -> Tensor:
        positions = torch.arange(z.shape[-1], device=z.device)
        for step in reversed(self.steps):
            after = z.flip(-1)
            z = torch.zeros_like(after)
            for d in range(after.shape[-1]):
                # Features that are not known yet stay zero: wrong values might overflow in a network that masks them.
                m, s = step(z, self.context)
                value = (after[..., d] - torch.sigmoid(-s[..., d]) * m[..., d]) / torch.sigmoid(s[..., d])
                z = torch.where(positions == d, value.unsqueeze(-1), z)
        return z

    def log_abs_det_jacobian(self, eps: Tensor, z: Tensor) -> Tensor:
        """Return ``log |d z / d eps|``, ``[...]``, for ``eps [..., D]``; ``z`` is not needed."""
        return self.call_and_log_scales(eps)[1].sum(-1)

    def call_and_ladj(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``z [..., D]`` and ``log |d z / d eps|``, ``[...]``, in one pass."""
        z, log_scales = self.call_and_log_scales(eps)
        return z, log_scales.sum(-1)

    def call_and_log_scales(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``z`` and the logarithm by which each of its features was scaled, ``[..., D]`` each.

        The logarithms move with their features when the order is reversed (in DU-VAE's released code they do not, so
        that only their sum means something there). A feature is what becomes of one of ``eps``: feature ``d`` of ``z``
        is feature ``d`` of ``eps`` for an even number of steps and feature ``D - 1 - d`` for an odd one.
        """
        z, log_scales = eps, torch.zeros_like(eps)
        for step in self.steps:
            m, s = step(z, self.context)
            z = (torch.sigmoid(s) * z + torch.sigmoid(-s) * m).flip(-1)
            log_scales = (log_scales + logsigmoid(s)).flip(-1)
        return z, log_scales


class InverseAutoregressiveFlow(NormalizingFlow):  # type: ignore[misc]  # zuko has no types
    """The distribution of ``z`` for a Gaussian ``eps``: Kingma et al. (2016), eq. 11,
    https://arxiv.org/abs/1606.04934.

    ``log q(z) = log N(eps) - sum log sigma``. Samples come with their density in one pass; the density of any other
    ``z`` needs the inverse, one pass for each feature of each step. There is no closed form of the mean, whose
    attribute raises ``NotImplementedError``. ``base`` is the Gaussian of ``eps``, and ``transform`` leads to it.

    Args:
        flow: The map ``eps -> z``, its context of a shape that broadcasts against the batch.
        base: Gaussian of ``eps``, batch ``[*batch]``, event ``(D,)``.
    """

    codes = ("base_and_end",)

    def __init__(self, flow: InverseAutoregressiveTransform, base: DiagonalNormal) -> None:
        super().__init__(flow.inv, base)
        self.flow = flow

    def expand(self, batch_shape: Any, new: Any = None) -> InverseAutoregressiveFlow:
        """Return the same distribution over a larger batch; memory is shared."""
        return InverseAutoregressiveFlow(self.flow, self.base.expand(batch_shape))

    @property
    def support(self) -> constraints.Constraint:
        """Return the reals."""
        return constraints.real_vector

    def base_and_end(self) -> Tensor:
        """Return codes ``[*batch, 2 D]``: the base's mean and where the flow takes it, side by side, without samples.

        ``evaluation.codes: base_and_end`` gives them to probes, as Shen et al., DU-VAE (2021), section 4.2,
        https://arxiv.org/abs/2110.12381.
        """
        mean = self.base.mean
        return torch.cat([mean, self.flow(mean)], -1)

    def rsample_and_log_prob(self, shape: Any = Size()) -> tuple[Tensor, Tensor]:
        """Draw ``z [*shape, *batch, D]`` and return it with ``log q(z)``, nats, ``[*shape, *batch]``; no inversion."""
        z, log_q = self.rsample_and_log_prob_per_dimension(shape)
        return z, log_q.sum(-1)

    def rsample_and_log_prob_per_dimension(self, shape: Any = Size()) -> tuple[Tensor, Tensor]:
        """Draw ``z`` and return it with one term of ``log q(z)`` for each latent dimension, ``[*shape, *batch, D]``.

        The term of ``z_d`` is ``log N(eps) - sum_t log sigma_t`` of the feature that became it, and the terms sum to
        ``log q(z)``. Of a flow of one step it is the density of ``z_d`` given the features before it in the order; of
        more steps it is a bookkeeping that Kingma et al. (2016), eq. 15, and DU-VAE's free bits rest on.
        """
        eps, log_base = self.base.rsample_and_log_prob_per_dimension(shape)
        z, log_scales = self.flow.call_and_log_scales(eps)
        return z, (log_base.flip(-1) if len(self.flow.steps) % 2 else log_base) - log_scales

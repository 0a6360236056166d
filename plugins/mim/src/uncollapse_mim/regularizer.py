"""The joint entropy of encoded pairs as a penalty for any objective."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from torch.distributions import Distribution
from uncollapse.capabilities import supports
from uncollapse.errors import ConfigError
from uncollapse.inference import Inference
from uncollapse.protocols import Bindable, Penalty

from .densities import LogDensities
from .functional import joint_entropy

__all__ = ["JointEntropy"]


class JointEntropy(nn.Module):
    """``weight * -E[log q(z|x) + log q(x)]`` over encoded pairs, nats per example: what "VAE+H" adds to the VAE's loss.

    Livne, Swersky and Fleet, MIM (2019), appendix E.1, figures 7 and 8, https://arxiv.org/abs/1910.03175. Pushing the
    joint entropy down raises the mutual information; the released code adds the same term. With the marginal ``q(x)``
    it is ``-(log p(x|z) + log p(z))``.

    Args:
        weight: Weight of the entropy.
        q_x: Density of the data: a module ``() -> Distribution`` over ``X``; None for the decoder's marginal.

    Raises:
        ConfigError: ``q_x`` needs the decoder, which a regularizer does not see.
    """

    def __init__(self, weight: float = 1.0, q_x: nn.Module | None = None) -> None:
        super().__init__()
        if supports(q_x, Bindable):
            raise ConfigError(
                "regularizers (mim.joint_entropy): q_x: a mixture of the decoder's own distributions needs the "
                "decoder, which a regularizer does not see; leave q_x out (the decoder's marginal) or give a density"
            )
        self.weight, self.q_x = weight, q_x

    def forward(self, inference: Inference) -> Penalty:
        """Return the penalty, with the term ``joint_entropy`` per example ``[B]``."""
        q_x: Distribution | None = None if self.q_x is None else cast(Any, self.q_x)()
        terms = LogDensities.of_encoded(inference, q_x)
        entropy: torch.Tensor = joint_entropy(terms.log_q_z, terms.log_q_x).mean(0)
        return Penalty(self.weight * entropy.mean(), {"joint_entropy": entropy})

    def extra_repr(self) -> str:
        """Return the weight."""
        return f"weight={self.weight}"

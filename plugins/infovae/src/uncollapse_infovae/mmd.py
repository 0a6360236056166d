"""MMD-VAE: maximum mean discrepancy between codes and prior."""

from __future__ import annotations

import math
from typing import Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.distributions import Distribution
from uncollapse.config import BuildContext
from uncollapse.errors import ConfigError

from .divergence import Divergence, DivergenceConfig, Measured, draw_prior
from .functional import Statistic, mmd
from .kernels import Kernel, KernelFields

__all__ = ["MMD", "MMDConfig"]


class MMD(Divergence):
    """``lambda MMD²(q(z), p(z))``: Zhao et al., InfoVAE (2017), section 4.1.3, https://arxiv.org/abs/1706.02262v1.

    Codes are samples of the posteriors, not their means; the prior is drawn from anew at every call. Several samples
    per example count as several sets of codes, over which the discrepancy is averaged. Under data parallelism the
    codes are those of the global batch.

    Args:
        weight: ``lambda``, which the paper does not state. The released ``mmd_vae.py`` averages the squared error over
            784 pixels beside an MMD of weight 1, which is 784 with pixels summed; ``mmd_vae_eval.py``, with weight
            50, comes to 39,200.
        kernel: The kernel and its bandwidth; by default the released one.
        statistic: ``v``, as released, or ``u``, unbiased; see :func:`~uncollapse_infovae.functional.mmd`.
        prior_samples: Draws of the prior; None for as many as there are codes, as released.
        alpha: Of the later family; 1 leaves the rate out.

    Raises:
        ConfigError: A weight or a name is out of range.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> penalty = MMD(weight=784)(torch.randn(100, 8))
    >>> round(penalty.terms["mmd"].item(), 3), round(penalty.total.item(), 1)
    (0.006, 5.0)
    """

    name = "infovae.mmd"

    def __init__(
        self,
        weight: float,
        kernel: Kernel | None = None,
        statistic: Statistic = "v",
        prior_samples: int | None = None,
        alpha: float = 1.0,
    ) -> None:
        super().__init__(weight, alpha)
        if statistic not in get_args(Statistic):
            raise ConfigError(f"{self.name}: statistic must be one of v, u; found {statistic!r}")
        self.kernel = Kernel() if kernel is None else kernel
        self.statistic, self.prior_samples = statistic, prior_samples

    def measure(self, z: Tensor, p_z: Distribution) -> Measured:
        """Return the squared discrepancy of codes ``z [S, B, *D]`` from fresh draws of the prior."""
        codes = z.flatten(2)
        count = z.shape[1] if self.prior_samples is None else self.prior_samples
        prior = draw_prior(p_z, count).flatten(1).to(codes.dtype)
        value = mmd(codes, prior, self.kernel.on(codes, prior), self.statistic).mean()
        return Measured(value, {"mmd": value.detach()})

    def extra_repr(self) -> str:
        """Return weights, kernel and statistic."""
        return (
            f"{super().extra_repr()}, kernel={self.kernel.family}, bandwidth={self.kernel.bandwidth}, "
            f"scales={list(self.kernel.scales)}, statistic={self.statistic}, prior_samples={self.prior_samples}"
        )


class MMDConfig(KernelFields, DivergenceConfig):
    """Maximum mean discrepancy of codes and prior: Zhao et al. (2017), section 4.1.3,
    https://arxiv.org/abs/1706.02262v1.
    """

    type: Literal["infovae.mmd"] = "infovae.mmd"
    weight: PositiveFloat | None = Field(
        None,
        description="lambda, nats per unit of squared MMD; null: one for each value of an example, as the released "
        "mmd_vae.py: 784 for 28x28 pixels (mmd_vae_eval.py: 50 for each, 39200)",
    )
    statistic: Statistic = Field("v", description="v: all pairs, as released; u: unbiased, may be negative")
    prior_samples: PositiveInt | None = Field(
        None, description="draws of the prior, anew at every step; null: as many as there are codes"
    )

    def build(self, context: BuildContext) -> MMD:
        """Return the regularizer."""
        weight = float(math.prod(context.data.event_shape)) if self.weight is None else self.weight
        return MMD(weight, self.build_kernel(), self.statistic, self.prior_samples, self.alpha)

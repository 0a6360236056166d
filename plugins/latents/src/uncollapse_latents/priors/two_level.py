"""The prior over two levels of latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext, Installed, PriorConfig
from uncollapse.distributions import DiagonalNormal
from uncollapse.errors import ConfigError
from uncollapse.protocols import Bindable, DataInitialized
from uncollapse_images.gates import GatedLinear, GaussianHead

from ..distributions.hierarchy import TwoLevel, TwoLevelNormal

__all__ = ["TwoLevelPrior", "TwoLevelPriorConfig"]


class TwoLevelPrior(nn.Module):
    """``p(z) = p(z2) p(z1|z2)`` over one concatenated ``z = (z1, z2)``: Tomczak and Welling, VAE with a VampPrior
    (2018), section 4, https://arxiv.org/abs/1705.07120, with the layers of its released code.

    ``z1``, the first numbers of ``z``, is the bottom level: a diagonal Gaussian whose moments gated layers read from
    ``z2``, the top level, which has a prior of its own. A VampPrior there is a mixture of ``q(z2|x)`` alone.

    Args:
        top: Prior of ``z2``: ``() -> p(z2)``, event ``(D2,)``.
        top_dim: Dimension ``D2``.
        bottom_dim: Dimension ``D1`` of ``z1``.
        hidden: Widths of the gated layers.
        logvar_range: Hard limits on the log-variance of ``p(z1|z2)``, or None.
    """

    def __init__(
        self,
        top: nn.Module,
        top_dim: int = 40,
        bottom_dim: int = 40,
        hidden: Sequence[int] = (300, 300),
        logvar_range: tuple[float, float] | None = (-6.0, 2.0),
    ) -> None:
        super().__init__()
        self.top = top
        self.bottom_dim = bottom_dim
        widths = [top_dim, *hidden]
        self.net = nn.Sequential(*(GatedLinear(before, after) for before, after in pairwise(widths)))
        self.head = GaussianHead(widths[-1], bottom_dim, logvar_range)

    def forward(self) -> TwoLevel:
        """Return ``p(z)``, batch ``[]``, event ``(D1 + D2,)``."""
        top: Distribution = self.top()
        if isinstance(top, DiagonalNormal):
            return TwoLevelNormal(top, self.bottom, self.bottom_dim)
        return TwoLevel(top, self.bottom, self.bottom_dim)

    def bottom(self, z2: Tensor) -> DiagonalNormal:
        """Return ``p(z1|z2)``, batch ``[...]``, event ``(D1,)``, for ``z2 [..., D2]``."""
        p: DiagonalNormal = self.head(self.net(z2))
        return p

    def bind_top(self, infer_top: Callable[[Tensor], Distribution]) -> None:
        """Hand ``infer_top``, ``x [K, *X] -> q(z2|x)``, to a top that needs the inference network."""
        if supports(self.top, Bindable):
            self.top.bind(infer_top)

    @property
    def stored_examples(self) -> int:
        """Training examples that the top starts from; see :class:`~uncollapse.protocols.DataInitialized`."""
        return int(getattr(self.top, "stored_examples", 0))

    def initialize(self, x: Tensor) -> None:
        """Let the top set parameters from ``x [B, *X]`` if it wants to."""
        if supports(self.top, DataInitialized):
            self.top.initialize(x)


class TwoLevelPriorConfig(PriorConfig):
    """Two levels of latents, ``p(z2) p(z1|z2)``: Tomczak and Welling (2018), section 4,
    https://arxiv.org/abs/1705.07120. ``z1`` comes first. Needs a Monte Carlo rate, which 'auto' takes.
    """

    type: Literal["two_level"] = "two_level"
    top: Annotated[PriorConfig, Installed("prior")] = Field(
        default="standard_normal", validate_default=True, description="prior of the top level z2"
    )
    top_dim: PositiveInt | None = Field(
        None, examples=[1], description="dimension of z2, the second part of the latent; null: as the posterior says"
    )
    hidden: tuple[PositiveInt, ...] = Field((300, 300), min_length=1, description="widths of the gated layers of z2")
    logvar_range: tuple[float, float] | None = Field(
        (-6.0, 2.0), description="hard limits on the log-variance of z1, as in the released code; null for none"
    )

    def build(self, context: BuildContext) -> TwoLevelPrior:
        """Return the prior.

        Raises:
            ConfigError: The latent does not have two levels, or others than ``top_dim`` says.
        """
        levels = context.levels("model.prior", self.top_dim)
        if len(levels) != 2:
            raise ConfigError(
                f"model.prior: 'two_level' needs a latent of two levels, but the posterior's, of shape "
                f"{context.latent_shape}, has {len(levels)}; use the posterior 'two_level', or say top_dim for another "
                "posterior over both levels"
            )
        bottom_dim, top_dim = levels
        top = self.top.build(replace(context, latent_shape=(top_dim,), latent_levels=()))
        return TwoLevelPrior(top, top_dim, bottom_dim, self.hidden, self.logvar_range)

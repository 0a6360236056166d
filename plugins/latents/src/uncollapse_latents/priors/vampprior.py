"""The VampPrior: a mixture of the model's own posteriors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse.config import BuildContext, PriorConfig
from uncollapse.errors import ConfigError, ShapeError

from .mixture import Mixture

__all__ = ["VampPrior", "VampPriorConfig"]


class VampPrior(nn.Module):
    """``p(z) = 1/K sum_k q(z|u_k)``: Tomczak and Welling, VAE with a VampPrior (2018), eq. 9,
    https://arxiv.org/abs/1705.07120. The pseudo-inputs ``u_k`` are learned; the density's gradient reaches them and
    the inference network.

    As in the released code pseudo-inputs are limited to [0, 1] where they are used, so a value that has left that
    range gets no gradient (the data's own zeros and ones, moved by noise, start outside about half of the time).
    Unlike there the density includes ``-D/2 log 2π``, and a sample draws its component: released sampling takes the
    first pseudo-inputs in order.

    Pseudo-posteriors are those that the data have in the same step: schedules stand where the data's do, batch
    statistics are those of the data, and pseudo-inputs do not move them. It has no analytic rate.

    Args:
        event_shape: Shape ``X`` of the data.
        components: Number of pseudo-inputs ``K``.
        from_data: Let :meth:`initialize` start them at data.
        mean: Mean of the pseudo-inputs that start at no data.
        std: Standard deviation of these, and of the noise on data.
        limits: Range that pseudo-inputs are limited to on use; None for data without one.
    """

    _infer: Callable[[Tensor], Distribution] | None

    def __init__(
        self,
        event_shape: tuple[int, ...],
        components: int = 500,
        from_data: bool = True,
        mean: float = 0.05,
        std: float = 0.01,
        limits: tuple[float, float] | None = (0.0, 1.0),
    ) -> None:
        super().__init__()
        self.from_data = from_data
        self.std = std
        self.limits = limits
        self.pseudo_inputs = nn.Parameter(mean + std * torch.randn(components, *event_shape))
        self._infer = None

    def bind(self, infer: Callable[[Tensor], Distribution]) -> None:
        """Keep the inference network, ``x [K, *X] -> q(z|x)``; wiring a model does this."""
        # Past nn.Module's registration: the network is the model's, not the prior's, or its parameters would be saved
        # twice. A bound method follows its model through copy.deepcopy all the same.
        object.__setattr__(self, "_infer", infer)

    def forward(self) -> Mixture:
        """Return ``p(z)``, batch ``[]``, event ``D``.

        Raises:
            ConfigError: No model has been wired with this prior.
        """
        if self._infer is None:
            raise ConfigError(
                "model.prior: 'vampprior' is a mixture of the model's own posteriors and has no inference network "
                "yet; wire it into a LatentVariableModel, or call prior.bind(infer)"
            )
        return Mixture(self._infer(self.inputs()))

    def inputs(self) -> Tensor:
        """Return the pseudo-inputs as the network sees them, inside the limits, ``[K, *X]``."""
        if self.limits is None:
            return self.pseudo_inputs
        return nn.functional.hardtanh(self.pseudo_inputs, *self.limits)

    @property
    def stored_examples(self) -> int:
        """Training examples that pseudo-inputs start from: ``K``, or 0 without ``from_data``.

        A run hands :meth:`initialize` so many of the first, before shuffling and with grey values where binary ones
        are drawn from them, as the released code does.
        """
        return len(self.pseudo_inputs) if self.from_data else 0

    def initialize(self, x: Tensor) -> None:
        """Start pseudo-inputs at the first ``K`` examples of ``x [B, *X]``, plus ``N(0, std^2)``.

        With fewer than ``K`` examples the other pseudo-inputs keep their draws of ``N(mean, std^2)``. Without
        ``from_data`` nothing happens.

        Raises:
            ShapeError: Examples have another shape.
        """
        if tuple(x.shape[1:]) != tuple(self.pseudo_inputs.shape[1:]):
            raise ShapeError(
                f"model.prior: pseudo-inputs have shape {tuple(self.pseudo_inputs.shape[1:])}, but the data have shape "
                f"{tuple(x.shape[1:])}; both must agree"
            )
        if not self.from_data:
            return
        with torch.no_grad():
            some = self.pseudo_inputs[: len(x)]
            some.copy_(x[: len(some)] + self.std * torch.randn_like(some))


class VampPriorConfig(PriorConfig):
    """A mixture of the model's own posteriors at learned pseudo-inputs: Tomczak and Welling (2018), eq. 9,
    https://arxiv.org/abs/1705.07120. Needs a Monte Carlo rate, which 'auto' takes.
    """

    type: Literal["vampprior"] = "vampprior"
    components: PositiveInt = Field(500, description="number of pseudo-inputs K")
    from_data: bool = Field(
        True,
        description="start pseudo-inputs at the first training examples; false starts them at N(mean, std^2)",
    )
    mean: float = Field(0.05, description="mean of pseudo-inputs that start at no example")
    std: NonNegativeFloat = Field(0.01, description="standard deviation of these, and of the noise on examples")

    def build(self, context: BuildContext) -> VampPrior:
        """Return the prior; pseudo-inputs of real-valued data have no limits.

        Raises:
            ConfigError: The data are tokens, between which there is nothing to learn.
        """
        support = context.data.support
        if support == "tokens":
            raise ConfigError(
                "model.prior: 'vampprior' learns pseudo-inputs by gradients, but the data are tokens; allowed: binary, "
                "unit_interval, bytes or real data. Use another prior, 'gaussian_mixture' say"
            )
        limits = None if support == "real" else (0.0, 1.0)
        return VampPrior(context.data.event_shape, self.components, self.from_data, self.mean, self.std, limits)

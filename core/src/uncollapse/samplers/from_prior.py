"""Draws from a trained model through its prior."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from ..capabilities import supports
from ..component import BuildContext
from ..errors import ConfigError
from ..kinds import SamplerConfig
from ..model import LatentVariableModel
from ..passes import measuring
from ..protocols import ReportsProgress

__all__ = ["AncestralSampler", "AncestralSamplerConfig", "decode"]


def decode(
    model: LatentVariableModel,
    z: Tensor,
    means: bool,
    max_batch: int,
    place: str,
    progress: Callable[[float], object] | None = None,
) -> Tensor:
    """Return one draw of ``p(x|z)``, or its mean, for every ``z [N, *D]``, ``[N, *X]``; ``max_batch`` at a time.

    ``progress`` is told the share that is done, after each batch, and within one by distributions that report it.

    Raises:
        ConfigError: Means were asked for and ``p(x|z)`` has none in closed form; the message names ``place``.
    """
    drawn: list[Tensor] = []
    done = 0
    for some in torch.split(z, max_batch):
        p_x = model.generate(some)
        if progress is not None and supports(p_x, ReportsProgress):
            p_x.progress = partial(_within, progress, done / len(z), len(some) / len(z))
        try:
            drawn.append(p_x.mean if means else p_x.sample())
        except NotImplementedError as error:
            raise ConfigError(
                f"{place}.means: {type(p_x).__name__} has no mean in closed form (an autoregressive decoder's values "
                "depend on one another); leave means off to get samples"
            ) from error
        done += len(some)
        if progress is not None:
            progress(done / len(z))
    return torch.cat(drawn)


def _within(progress: Callable[[float], object], start: float, length: float, share: float) -> None:
    progress(start + length * share)


class AncestralSampler:
    """``z ~ p(z)``, then ``x ~ p(x|z)``: Kingma and Welling (2014), section 2, https://arxiv.org/abs/1312.6114.

    Args:
        means: Return the mean of ``p(x|z)`` instead of a draw of it.
        max_batch: Latents that go through the decoder at once.

    Attributes:
        progress: Called with the share of the draws that is done.
    """

    progress: Callable[[float], object] | None = None

    def __init__(self, means: bool = False, max_batch: int = 256) -> None:
        self.means = means
        self.max_batch = max_batch

    def __call__(self, model: LatentVariableModel, count: int) -> Tensor:
        """Return ``x`` ``[count, *X]``.

        Raises:
            ConfigError: Means were asked for and ``p(x|z)`` has none in closed form.
        """
        with measuring(model):
            z = model.p_z().sample(torch.Size((count,)))
            return decode(model, z, self.means, self.max_batch, "ancestral", self.progress)


class AncestralSamplerConfig(SamplerConfig):
    """Latents from the prior, data from the decoder: Kingma and Welling (2014), section 2,
    https://arxiv.org/abs/1312.6114.
    """

    type: Literal["ancestral"] = "ancestral"
    means: bool = Field(False, description="the mean of p(x|z) instead of a draw")
    max_batch: PositiveInt = Field(256, description="latents that go through the decoder at once")

    def build(self, context: BuildContext) -> AncestralSampler:
        """Return the sampler."""
        return AncestralSampler(self.means, self.max_batch)

"""Draws from a model whose prior is not to be trusted: the chain of data and codes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, get_args

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor
from uncollapse.config import BuildContext, SamplerConfig
from uncollapse.errors import ConfigError, DataError
from uncollapse.model import LatentVariableModel
from uncollapse.passes import device_of, measuring
from uncollapse.protocols import Batch, Progress
from uncollapse.samplers import decode

__all__ = ["MarkovChainSampler", "MarkovChainSamplerConfig"]

Start = Literal["prior", "data"]
_PLACE = "infovae.markov_chain"
_AT_END = Progress.at_end()


class MarkovChainSampler:
    """``z(t) ~ q(z|x(t))``, ``x(t+1) ~ p(x|z(t))``: Zhao et al., InfoVAE (2017), Proposition 1, eq. 3,
    https://arxiv.org/abs/1706.02262v1.

    For the best decoder of any encoder the chain converges to the data's distribution, whatever the aggregate
    posterior: this is how a model without regularizer generates, whose codes the prior does not describe.

    Args:
        burn_in: Steps before the first sample of a chain.
        thin: Steps between two samples of a chain.
        chains: Chains side by side; None for one a sample, which makes the samples independent.
        start: ``prior``: ``x(0) ~ p(x|z)`` with ``z ~ p(z)``; ``data``: random training examples.
        means: Return the mean of the last ``p(x|z)`` instead of a draw.
        max_batch: Examples that go through the model at once.

    Raises:
        ConfigError: An argument is out of range.
    """

    def __init__(
        self,
        burn_in: int = 100,
        thin: int = 1,
        chains: int | None = None,
        start: Start = "prior",
        means: bool = False,
        max_batch: int = 256,
    ) -> None:
        if start not in get_args(Start):
            raise ConfigError(f"{_PLACE}: start must be one of {', '.join(get_args(Start))}; found {start!r}")
        _require_lengths(burn_in, thin, chains, start)
        self.burn_in, self.thin, self.chains, self.start = burn_in, thin, chains, start
        self.means, self.max_batch = means, max_batch
        self._batches: Callable[[], Iterable[Batch]] | None = None

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Keep where the training data are: chains that start from data begin at the first examples of a pass."""
        self._batches = batches

    def __call__(self, model: LatentVariableModel, count: int) -> Tensor:
        """Return ``x`` ``[count, *X]``; the samples of one chain follow one another.

        Raises:
            ConfigError: Means were asked for and ``p(x|z)`` has none in closed form; or chains start from data and
                :meth:`prepare` has not been called.
            DataError: There are fewer training examples than chains.
        """
        chains = min(count, self.chains or count)
        kept: list[Tensor] = []
        with measuring(model):
            z, x = self._first(model, chains)
            while len(kept) * chains < count:
                for _ in range(self.thin if kept else self.burn_in):
                    z = torch.cat([model.infer(some, _AT_END).sample() for some in x.split(self.max_batch)])
                    x = decode(model, z, False, self.max_batch, _PLACE)
                kept.append(decode(model, z, True, self.max_batch, _PLACE) if self.means else x)
        return torch.stack(kept, 1).flatten(0, 1)[:count]

    def _first(self, model: LatentVariableModel, chains: int) -> tuple[Tensor, Tensor]:
        """Return codes and data of step 0; where data come first, codes that no sample is made of."""
        if self.start == "prior":
            z = model.p_z().sample(torch.Size((chains,)))
            return z, decode(model, z, False, self.max_batch, _PLACE)
        if self._batches is None:
            raise ConfigError(
                f"{_PLACE}: start: data needs training examples; call prepare(batches) first, as the command line "
                "does, or use start: prior"
            )
        examples: list[Tensor] = []
        for batch in self._batches():
            examples.append(batch.x)
            if sum(map(len, examples)) >= chains:
                x = torch.cat(examples)[:chains].to(device_of(model))
                return x.new_empty(0), x
        raise DataError(
            f"{_PLACE}: {chains} chains start from training examples, but there are only {sum(map(len, examples))}; "
            "set chains"
        )


def _require_lengths(burn_in: int, thin: int, chains: int | None, start: Start) -> None:
    if burn_in < 0 or thin < 1 or (chains is not None and chains < 1):
        raise ConfigError(
            f"{_PLACE}: burn_in must be at least 0, thin and chains at least 1; found burn_in={burn_in}, thin={thin}, "
            f"chains={chains}"
        )
    if start == "data" and burn_in == 0:
        raise ConfigError(f"{_PLACE}: start: data with burn_in: 0 returns training examples; use a burn_in from 1 on")


class MarkovChainSamplerConfig(SamplerConfig):
    """The chain of data and codes: Zhao et al. (2017), Proposition 1, https://arxiv.org/abs/1706.02262v1."""

    type: Literal["infovae.markov_chain"] = "infovae.markov_chain"
    burn_in: NonNegativeInt = Field(100, description="steps before the first sample of a chain")
    thin: PositiveInt = Field(1, description="steps between two samples of a chain")
    chains: PositiveInt | None = Field(None, description="chains side by side; null: one for each sample")
    start: Start = Field("prior", description="prior: data made from draws of the prior; data: training examples")
    means: bool = Field(False, description="the mean of the last p(x|z) instead of a draw")
    max_batch: PositiveInt = Field(256, description="examples that go through the model at once")

    @model_validator(mode="after")
    def _moves(self) -> MarkovChainSamplerConfig:
        _require_lengths(self.burn_in, self.thin, self.chains, self.start)
        return self

    def build(self, context: BuildContext) -> MarkovChainSampler:
        """Return the sampler."""
        return MarkovChainSampler(self.burn_in, self.thin, self.chains, self.start, self.means, self.max_batch)

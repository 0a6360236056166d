"""What MIM's experiments report: mutual information by nearest neighbours, and the error of sampled reconstructions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor
from uncollapse.config import BuildContext, EstimatorConfig
from uncollapse.errors import ConfigError
from uncollapse.model import LatentVariableModel
from uncollapse.passes import as_float64, batches_on_device, mean_estimate, measuring
from uncollapse.protocols import Batch, Estimate, Estimates, Progress

from .functional import ksg
from .information import Algorithm, Norm

__all__ = ["KSG", "KSGConfig", "SampledReconstruction", "SampledReconstructionConfig"]

_UNIT = "Euclidean norm of an example"


class KSG:
    """Mutual information between ``x`` and one sampled ``z`` of it, by nearest neighbours, nats.

    Livne, Swersky and Fleet, MIM (2019), section 5.1, with five neighbours: Kraskov, Stögbauer and Grassberger (2004),
    eq. 8 and 9, https://arxiv.org/abs/cond-mat/0305641; Gao, Oh and Viswanath (2018),
    https://arxiv.org/abs/1604.03006. It is the information of the pair under the encoding distribution, the aggregate
    posterior being what it is.

    Estimates saturate: they cannot exceed about ``log N - psi(k)`` nats and fall short before, the more so the more
    dimensions there are. The paper declares them unreliable for images.

    Args:
        neighbors: ``k``.
        algorithm: ``ksg1``, ``ksg2`` or ``revised``; see :func:`uncollapse_mim.functional.ksg`.
        norm: ``max`` or, for ``revised``, ``euclidean``.
        examples: Use only the first examples of the set, which evaluation visits in random order; None for all.
        jitter: Standard deviation of noise added to both, relative to each coordinate's own. Kraskov et al. add 1e-10
            to break ties of discrete values.
    """

    def __init__(
        self,
        neighbors: int = 5,
        algorithm: Algorithm = "ksg1",
        norm: Norm = "max",
        examples: int | None = 10_000,
        jitter: float = 0.0,
    ) -> None:
        self.neighbors, self.algorithm, self.norm = neighbors, algorithm, norm
        self.examples, self.jitter = examples, jitter

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``ksg_mutual_information`` in nats; its note states the ceiling, ties, and the error's order.

        The order is ``N**-0.5 + N**(-1 / (Dx + Dz))``, as the released code logs it. The standard error takes examples
        as independent, although they share neighbours.

        Raises:
            ConfigError: There are not more examples than neighbours.
        """
        xs: list[Tensor] = []
        zs: list[Tensor] = []
        with measuring(model):
            for x in _examples(model, batches, self.examples):
                xs.append(as_float64(x.flatten(1)))
                zs.append(as_float64(model.infer(x, Progress.at_end()).sample().flatten(1)))
        x, z = (self._jittered(torch.cat(parts).cpu()) for parts in (xs, zs))
        if len(x) <= self.neighbors:
            raise ConfigError(
                f"evaluation.estimators (mim.ksg): {self.neighbors} neighbors need more than {len(x)} examples; lower "
                "neighbors or measure on more examples"
            )
        found = ksg(x.numpy(), z.numpy(), self.neighbors, self.algorithm, self.norm)
        count, dimensions = len(x), x.shape[1] + z.shape[1]
        order = count**-0.5 + count ** (-1 / dimensions)
        note = (
            f"{self.algorithm}, k = {self.neighbors}: at most {found.ceiling:.2f} nats for {count} examples, saturates "
            f"before; error of the order of {order:.2g}"
        )
        if found.ties:
            note += f"; {found.ties} examples have tied neighbours, which continuous values do not: means little"
        error = float(found.terms.std(ddof=1)) / count**0.5
        return {"ksg_mutual_information": Estimate(found.value, "nats", error, count, None, note)}

    def _jittered(self, points: Tensor) -> Tensor:
        return points + self.jitter * points.std(0) * torch.randn_like(points) if self.jitter else points


class KSGConfig(EstimatorConfig):
    """Mutual information by nearest neighbours: Kraskov et al. (2004), eq. 8 and 9, https://arxiv.org/abs/cond-mat/0305641,
    as in Livne et al., MIM (2019), section 5.1.
    """

    type: Literal["mim.ksg"] = "mim.ksg"
    neighbors: PositiveInt = Field(5, description="neighbours k; more are less noisy and saturate earlier")
    algorithm: Algorithm = Field("ksg1", description="Kraskov's first or second algorithm, or Gao et al.'s revised one")
    norm: Norm = Field("max", description="max, or euclidean for the revised algorithm")
    examples: PositiveInt | None = Field(10_000, description="use only so many examples, drawn at random; null for all")
    jitter: float = Field(0.0, ge=0, description="noise that breaks ties, relative to each coordinate's deviation")

    @model_validator(mode="after")
    def _norm_fits(self) -> KSGConfig:
        if self.norm == "euclidean" and self.algorithm != "revised":
            raise ValueError(f"norm: {self.algorithm} is defined in the max norm; use algorithm: revised or norm: max")
        return self

    def build(self, context: BuildContext) -> KSG:
        """Return the estimator.

        Raises:
            ConfigError: The data are tokens, between which there is no distance.
        """
        _refuse_tokens(context, self.type)
        return KSG(self.neighbors, self.algorithm, self.norm, self.examples, self.jitter)


class SampledReconstruction:
    """How far sampled reconstructions lie from the data: ``|x - x'|`` for ``z ~ q(z|x)`` and ``x' ~ p(x|z)``.

    Livne, Swersky and Fleet, MIM (2019), figure 2 (c), https://arxiv.org/abs/1910.03175. The paper speaks of the root
    of the mean square, the released code plots the mean of the norms; both are given, of whole examples.

    Args:
        reconstruction: ``sample``: ``x'`` is drawn; ``mean``: it is the decoder's mean at the sampled ``z``.
        examples: Use only the first examples of the set, which evaluation visits in random order; None for all.
    """

    def __init__(self, reconstruction: Literal["sample", "mean"] = "sample", examples: int | None = 10_000) -> None:
        self.reconstruction, self.examples = reconstruction, examples

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``reconstruction_rmse`` and ``reconstruction_mean_norm``, in the data's own unit."""
        squares: list[Tensor] = []
        with measuring(model):
            for x in _examples(model, batches, self.examples):
                p_x = model.generate(model.infer(x, Progress.at_end()).sample())
                again = p_x.sample() if self.reconstruction == "sample" else p_x.mean
                squares.append(as_float64(x - again).square().flatten(1).sum(1))
        square = torch.cat(squares)
        norm, count = square.sqrt(), len(square)
        rmse = square.mean().sqrt()
        how = f"{self.reconstruction} of p(x|z) at one sample of z"
        # The root's standard error follows from that of the mean under it.
        error = float(square.std() / (2 * rmse * count**0.5)) if count > 1 and rmse > 0 else None
        return {
            "reconstruction_rmse": Estimate(float(rmse), _UNIT, error, count, None, how),
            "reconstruction_mean_norm": mean_estimate(norm, _UNIT, how),
        }


class SampledReconstructionConfig(EstimatorConfig):
    """Distance of sampled reconstructions: Livne et al., MIM (2019), figure 2 (c), https://arxiv.org/abs/1910.03175."""

    type: Literal["mim.reconstruction"] = "mim.reconstruction"
    reconstruction: Literal["sample", "mean"] = Field("sample", description="what p(x|z) gives: a sample, or its mean")
    examples: PositiveInt | None = Field(10_000, description="use only so many examples, drawn at random; null for all")

    def build(self, context: BuildContext) -> SampledReconstruction:
        """Return the estimator.

        Raises:
            ConfigError: The data are tokens, between which there is no distance.
        """
        _refuse_tokens(context, self.type)
        return SampledReconstruction(self.reconstruction, self.examples)


def _examples(
    model: LatentVariableModel, batches: Callable[[], Iterable[Batch]], limit: int | None
) -> Iterator[Tensor]:  # fmt: skip
    """Yield the data of a pass on the model's device, the first ``limit`` examples."""
    seen = 0
    for batch in batches_on_device(model, batches):
        yield batch.x if limit is None else batch.x[: limit - seen]
        seen += len(batch)
        if limit is not None and seen >= limit:
            return


def _refuse_tokens(context: BuildContext, name: str) -> None:
    if context.data.support == "tokens":
        raise ConfigError(
            f"evaluation.estimators: {name!r} measures distances, which tokens do not have; use "
            "'mutual_information' and 'elbo' instead"
        )

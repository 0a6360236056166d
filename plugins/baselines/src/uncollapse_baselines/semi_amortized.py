"""SA-VAE: an objective whose posterior is refined for each example, and the same posterior for measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse import Inference, LatentVariableModel
from uncollapse.capabilities import supports
from uncollapse.config import BuildContext, EstimatorConfig, Installed, ObjectiveConfig
from uncollapse.distributions import DiagonalNormal
from uncollapse.errors import ConfigError
from uncollapse.model import kept_buffers
from uncollapse.objectives import ELBO
from uncollapse.posteriors import GaussianPosterior
from uncollapse.protocols import (
    Batch,
    Estimate,
    Estimates,
    Estimator,
    Loss,
    NeedsTrainingData,
    Objective,
    Progress,
)

from .refinement import FiniteDifferences, Refinement

__all__ = ["Refined", "RefinedConfig", "SemiAmortized", "SemiAmortizedConfig"]

SecondOrder = Literal["exact", "finite_difference"]


class _WithPosterior:
    """A model whose posterior is the one given, whatever the data; everything else is the model's."""

    def __init__(self, model: LatentVariableModel, x: Tensor, h: Tensor, q: DiagonalNormal) -> None:
        self._model, self._x, self._h, self._q = model, x, h, q

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def infer(self, x: Tensor, progress: Progress | None = None) -> DiagonalNormal:
        if x is not self._x:
            raise ConfigError(
                "objective: baselines.semi_amortized refines the posteriors of a batch, but its objective asked for "
                "that of other data; choose an objective that encodes the batch alone, elbo or iwae"
            )
        return self._q

    def __call__(self, x: Tensor, samples: int = 1, progress: Progress | None = None) -> Inference:
        q = self.infer(x, progress)
        z = q.rsample((samples,))
        p_x, p_z = self._model.generate(z), self._model.p_z()
        return Inference(x=x, h=self._h, q=q, z=z, p_z=p_z, p_x=p_x, progress=progress or Progress())


@dataclass(frozen=True)
class _Encoded:
    """A batch whose posteriors are to be refined.

    Args:
        h: Features ``[B, *H]``.
        proposal: Moments where the steps begin: as the head has them, before limits and transforms.
        constrain: The posterior of such moments, which keeps what limits and transforms promise.
    """

    h: Tensor
    proposal: DiagonalNormal
    constrain: Callable[[DiagonalNormal], DiagonalNormal]

    @classmethod
    def of(cls, model: LatentVariableModel, x: Tensor, progress: Progress | None) -> _Encoded:
        h, posterior = model.encoder(x), model.posterior
        q = posterior(h, progress)
        if not isinstance(q, DiagonalNormal):
            raise ConfigError(
                f"model.posterior: baselines.semi_amortized refines mean and log-variance, which {type(q).__name__} "
                "does not have; use the posterior 'gaussian'"
            )
        if not isinstance(posterior, GaussianPosterior):
            return cls(h, q, lambda refined: refined)

        def constrain(refined: DiagonalNormal) -> DiagonalNormal:
            # Running statistics are those of the network's proposals, which moved them above.
            with kept_buffers(model):
                return posterior.constrained(refined.mean, refined.logvar, progress)

        return cls(h, DiagonalNormal(*posterior.proposed(h), len(q.event_shape)), constrain)

    def losses(
        self, objective: Objective, model: LatentVariableModel, batch: Batch, progress: Progress
    ) -> Callable[[DiagonalNormal], Loss]:
        """Return the objective's loss as a function of the batch's moments."""

        def loss(moments: DiagonalNormal) -> Loss:
            given = _WithPosterior(model, batch.x, self.h, self.constrain(moments))
            return objective(cast(LatentVariableModel, given), batch, progress)

        return loss


class SemiAmortized(nn.Module):
    """An objective at posteriors that the inference network proposes and gradient steps refine: Kim et al.,
    Semi-Amortized Variational Autoencoders (2018), algorithm 1, https://arxiv.org/abs/1802.02550.

    ``loss(m_T)`` with ``m_{t+1} = m_t - lr v_t``, ``v_t = momentum v_{t-1} + grad loss(m_t)`` from the proposal's
    moments ``m_0``. The steps descend on the objective itself, with the weights of the moment. Limits and transforms of
    the moments are applied after every step, so that a refined posterior keeps what they promise. The gradient goes
    through the steps, so that the inference network learns to propose what the steps can improve, and the decoder gets
    its second-order terms: exactly, by autograd through the unrolled steps, or by finite differences as released.
    Validation refines too.

    Args:
        objective: What is minimised; the evidence lower bound by default.
        refinement: The steps.
        second_order: ``exact`` or ``finite_difference``.
        epsilon: Length of finite differences.
    """

    def __init__(
        self,
        objective: Objective | None = None,
        refinement: Refinement | None = None,
        second_order: SecondOrder = "exact",
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.objective: Objective = objective or ELBO()
        self.refinement = refinement or Refinement()
        self.second_order, self.epsilon = second_order, epsilon

    def forward(self, model: LatentVariableModel, batch: Batch, progress: Progress) -> Loss:
        """Return the objective's loss, nats per example, at the refined posteriors.

        A term ``initial_elbo`` is that of the proposals.

        Raises:
            ConfigError: The posterior is no Gaussian.
        """
        encoded = _Encoded.of(model, batch.x, progress)
        q, loss_of = encoded.proposal, encoded.losses(self.objective, model, batch, progress)
        first: list[Tensor] = []

        def total_of(posterior: DiagonalNormal) -> Tensor:
            loss = loss_of(posterior)
            if not first and "elbo" in loss.terms:
                first.append(loss.terms["elbo"].detach())
            return loss.total

        if not torch.is_grad_enabled():
            loss = loss_of(self.refinement(total_of, q))
        elif self.second_order == "exact":
            loss = loss_of(self.refinement(total_of, q, create_graph=True))
        else:
            loss = self._by_differences(model, loss_of, total_of, q)
        return replace(loss, terms={**loss.terms, **({"initial_elbo": first[0]} if first else {})})

    def _by_differences(
        self,
        model: LatentVariableModel,
        loss_of: Callable[[DiagonalNormal], Loss],
        total_of: Callable[[DiagonalNormal], Tensor],
        q: DiagonalNormal,
    ) -> Loss:
        parameters = [p for part in (model.prior, model.decoder) for p in part.parameters() if p.requires_grad]
        steps = FiniteDifferences(self.refinement, total_of, parameters, self.epsilon)
        refined = steps.forward(q)
        loss = loss_of(refined)
        moments = (refined.mean, refined.logvar)
        own = torch.autograd.grad(loss.total, moments, retain_graph=True)
        found, terms = steps.backward((own[0], own[1]))
        # A number that is always 0 and whose gradients are those found: the rest is the trainer's usual backward.
        pairs = [(q.mean, found[0]), (q.logvar, found[1]), *zip(parameters, terms, strict=True)]
        carrier = torch.stack([((t - t.detach()) * g).sum() for t, g in pairs]).sum()
        return replace(loss, total=loss.total + carrier)


class SemiAmortizedConfig(ObjectiveConfig):
    """SA-VAE: Kim et al. (2018), algorithm 1, https://arxiv.org/abs/1802.02550. With cudnn, recurrent decoders need
    'finite_difference'.
    """

    type: Literal["baselines.semi_amortized"] = "baselines.semi_amortized"
    objective: Annotated[ObjectiveConfig, Installed("objective")] = Field(
        default="elbo", validate_default=True, description="what is minimised, by the steps as well"
    )
    steps: PositiveInt = Field(20, description="gradient steps on the moments of each example")
    lr: PositiveFloat = Field(0.02, description="learning rate of the steps; released: 1 for the mean of 50 examples")
    momentum: float = Field(0.5, ge=0, lt=1, description="momentum of the steps")
    clip: PositiveFloat | None = Field(None, description="largest norm of the steps' gradients; null for none")
    scale: Literal["example", "batch"] = Field(
        "example", description="gradients of each example's own loss, or of the batch's mean loss, as released"
    )
    second_order: SecondOrder = Field("exact", description="exact, or by finite differences as released")
    epsilon: PositiveFloat = Field(1e-5, description="length of finite differences")

    def build(self, context: BuildContext) -> SemiAmortized:
        """Return the objective."""
        steps = Refinement(self.steps, self.lr, self.momentum, self.clip, self.scale)
        return SemiAmortized(self.objective.build(context), steps, self.second_order, self.epsilon)


class _RefinedModel:
    """A model whose posteriors are refined on the evidence lower bound; everything else is the model's."""

    def __init__(self, model: LatentVariableModel, refinement: Refinement) -> None:
        self._model, self._refinement, self._objective = model, refinement, ELBO()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def infer(self, x: Tensor, progress: Progress | None = None) -> Distribution:
        encoded = _Encoded.of(self._model, x, progress)
        loss_of = encoded.losses(self._objective, self._model, Batch(x), progress or Progress.at_end())
        return encoded.constrain(self._refinement(lambda moments: loss_of(moments).total, encoded.proposal))


class Refined:
    """Other estimators, measured on refined posteriors: Kim et al. (2018), https://arxiv.org/abs/1802.02550.

    A semi-amortized model's posterior is what the steps ``m = m - lr v``, ``v = momentum v - grad elbo(m)`` make of the
    inference network's proposal; without this, estimators measure the proposal. Steps descend on each example's
    evidence lower bound.

    Args:
        estimators: What is measured.
        refinement: The steps, with ``scale="example"``: how evaluation batches examples must not matter.
    """

    def __init__(self, estimators: Sequence[Estimator], refinement: Refinement | None = None) -> None:
        self.estimators, self.refinement = list(estimators), refinement or Refinement()

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return every estimate under ``refined_<its name>``.

        Raises:
            ConfigError: The posterior is no Gaussian.
        """
        refined = cast(LatentVariableModel, _RefinedModel(model, self.refinement))
        found: dict[str, Estimate] = {}
        for estimator in self.estimators:
            for name, estimate in estimator(refined, batches).items():
                notes = (estimate.note, f"posteriors refined by {self.refinement.steps} steps")
                found[f"refined_{name}"] = replace(estimate, note="; ".join(filter(None, notes)))
        return found

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Let estimators that ask for it take in the training data."""
        for estimator in self.estimators:
            if supports(estimator, NeedsTrainingData):
                estimator.prepare(batches)


class RefinedConfig(EstimatorConfig):
    """Other estimators on the refined posteriors of SA-VAE: Kim et al. (2018), https://arxiv.org/abs/1802.02550."""

    type: Literal["baselines.refined"] = "baselines.refined"
    estimators: tuple[Annotated[EstimatorConfig, Installed("estimator")], ...] = Field(
        default=("elbo",), validate_default=True, min_length=1, description="what is measured on refined posteriors"
    )
    steps: PositiveInt = Field(20, description="gradient steps on the moments of each example")
    lr: PositiveFloat = Field(
        0.02,
        description="learning rate of the steps; after scale: batch, that rate over the batch's size",
    )
    momentum: float = Field(0.5, ge=0, lt=1, description="momentum of the steps")
    clip: PositiveFloat | None = Field(None, description="largest norm of the steps' gradients; null for none")

    def build(self, context: BuildContext) -> Refined:
        """Return the estimator."""
        steps = Refinement(self.steps, self.lr, self.momentum, self.clip)
        return Refined([e.build(context) for e in self.estimators], steps)

"""The protocols that parts speak and the records that they exchange: the one door to all of them.

Records are kept in :mod:`uncollapse.records`, what the parts of a model must do in :mod:`uncollapse.parts`, what data
must do in :mod:`uncollapse.sources`; the rest, which knows models, is here.

Shape vocabulary, used in every docstring: ``S`` posterior samples per example, ``B`` examples of a batch, ``X`` event
shape of the data, ``D`` latent shape (usually one dimension), ``H`` features of the encoder, ``N`` examples of a set.
Losses and terms are nats per example: summed over event dimensions, averaged over the batch, never over pixels.

Protocols are structural: any ``nn.Module`` with the right call is a part. A part may also define one of the optional
methods of :class:`Bindable`, :class:`Hierarchical`, :class:`TopBindable`, :class:`DataInitialized` and
:class:`Adversarial`, a split those of :class:`GroupedSplit` and :class:`Stored`, a data source those of
:class:`KeepsArtifacts` and :class:`ReadsText`, an estimator or a sampler that of :class:`NeedsTrainingData`, a
strategy that of :class:`JudgesEpochs`; who calls them is said there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from .inference import Inference
from .model import LatentVariableModel
from .parts import (
    Bindable,
    DataInitialized,
    Decoder,
    Encoder,
    Hierarchical,
    Likelihood,
    MomentTransform,
    Posterior,
    Prior,
    TopBindable,
    output_channels,
)
from .records import Batch, DataSpec, Estimate, Estimates, Penalty, Progress, Scores, SpecialTokens, Support, finished
from .sources import DataSource, GroupedSplit, KeepsArtifacts, ReadsText, Split, Stored, count_batches, joined, mixed

__all__ = [
    "Adversarial",
    "Batch",
    "Bindable",
    "DataInitialized",
    "DataSource",
    "DataSpec",
    "Decoder",
    "Encoder",
    "Estimate",
    "Estimates",
    "Estimator",
    "Feedback",
    "GroupedSplit",
    "Hierarchical",
    "JudgesEpochs",
    "KeepsArtifacts",
    "Learning",
    "Likelihood",
    "Loss",
    "MomentTransform",
    "NeedsTrainingData",
    "Objective",
    "Observer",
    "Outcome",
    "Penalty",
    "Posterior",
    "Prior",
    "Probe",
    "Progress",
    "Reaction",
    "ReadsText",
    "Regularizer",
    "ReportsProgress",
    "Sampler",
    "Schedule",
    "Scores",
    "SeesWeights",
    "SpecialTokens",
    "Split",
    "Stored",
    "Strategy",
    "Support",
    "TopBindable",
    "count_batches",
    "finished",
    "joined",
    "mixed",
    "output_channels",
]


@dataclass(frozen=True, slots=True)
class Loss:
    """What an objective returns.

    Args:
        total: Scalar to minimise, nats per example.
        terms: Named terms per example ``[B]`` (or one scalar for the batch), nats; the vocabulary is ``elbo``,
            ``distortion``, ``rate`` and names of the objective's own.
        inference: The pass over the data that regularizers read.
        weights: Current values of schedules, for the log.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    inference: Inference
    weights: Mapping[str, float] = field(default_factory=dict)


class Outcome(NamedTuple):
    """What a training step minimises and reports.

    Args:
        total: Objective plus penalties, a scalar, nats per example, with its graph.
        terms: ``loss``, the objective's terms, ``<regularizer>`` and ``<regularizer>/<term>``; scalars or per example
            ``[B]``, nats, without graph.
        weights: Values of schedules.
        inference: The pass that the regularizers read.
    """

    total: Tensor
    terms: dict[str, Tensor]
    weights: Mapping[str, float]
    inference: Inference


class Regularizer(Protocol):
    """``regularizer(inference) -> Penalty``, nats per example; couplings in the batch use ``inference.gathered()``.

    One whose weight follows the training (a constraint's multiplier) has a ``settled``: as long as it is False, losses
    of different steps cannot be compared, and none is called the best for its loss. An objective may have one, too.
    """

    def __call__(self, inference: Inference) -> Penalty: ...


class Objective(Protocol):
    """``objective(model, batch, progress) -> Loss``, nats per example; may make several passes."""

    def __call__(self, model: LatentVariableModel, batch: Batch, progress: Progress) -> Loss: ...


class Schedule(Protocol):
    """``schedule(progress) -> weight``, and when it reaches its final value."""

    def __call__(self, progress: Progress) -> float: ...

    def length(self) -> float:
        """Return the epochs after which the value no longer changes (0 for a constant)."""
        ...


class Estimator(Protocol):
    """``estimator(model, batches) -> Estimates``; ``batches()`` starts a fresh pass over the evaluation set."""

    def __call__(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates: ...


class Probe(Protocol):
    """``probe(train_codes, train_labels, test_codes, test_labels) -> Scores`` on ``[N, D]`` codes, ``[N]`` labels."""

    def __call__(
        self, train_codes: Tensor, train_labels: Tensor, test_codes: Tensor, test_labels: Tensor
    ) -> Scores: ...


class Sampler(Protocol):
    """``sampler(model, count) -> x`` ``[count, *X]`` drawn from a trained model."""

    def __call__(self, model: LatentVariableModel, count: int) -> Tensor: ...


class Observer(Protocol):
    """``observer(inference, batch, progress) -> terms``: called after every training step with detached quantities.

    The terms, scalars or per example ``[B]``, are logged; the observer's parameters live in the checkpoint. An observer
    is an ``nn.Module``; it steps its own parameters and touches nothing of the model.
    """

    def __call__(self, inference: Inference, batch: Batch, progress: Progress) -> Mapping[str, Tensor]: ...


class Learning(Protocol):
    """What a strategy is given: the model in training, and what may be done to it."""

    model: LatentVariableModel

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """Everything that the optimizer steps, parameters of objective and regularizers included."""
        ...

    def loss(self, batch: Batch, progress: Progress) -> Outcome:
        """Return objective and penalties of this process's share of a batch, nats per example."""
        ...

    def descend(self, total: Tensor, only: Collection[nn.Parameter] | None = None) -> None:
        """Differentiate ``total``, clip the gradient of all parameters, and step the optimizer.

        Args:
            total: A scalar with its graph.
            only: The parameters that are stepped; None for all.
        """
        ...

    def random_batch(self) -> Batch:
        """Return this process's share of a random batch of training data; another at every call."""
        ...

    def mean_over_processes(self, value: Tensor) -> Tensor:
        """Return the mean of a scalar over all processes, which a decision that they must share is to be based on."""
        ...


class Strategy(Protocol):
    """``strategy(learning, batch, progress) -> Outcome``: what a batch does to the model, called once for each batch.

    The default of a pipeline is one joint step: ``outcome = learning.loss(batch, progress)``, then
    ``learning.descend(outcome.total)``. Opponents, observers, averaged weights and the learning rate stay the trainer's
    business. What the strategy knows is part of the checkpoint.
    """

    def __call__(self, learning: Learning, batch: Batch, progress: Progress) -> Outcome: ...

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values that :meth:`load_state_dict` takes."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        ...


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a validation makes a schedule ask for.

    Args:
        reset_optimizer: Forget the optimizer's moments.
        reload_best: Go back to the weights of the best checkpoint.
        stop: End the run.
    """

    reset_optimizer: bool = False
    reload_best: bool = False
    stop: bool = False


class Feedback(Protocol):
    """A learning-rate schedule that hears of every validation; its state is part of the checkpoint."""

    def __call__(self, step: int) -> float:
        """Return the factor on the optimizer's rate."""
        ...

    def validated(self, loss: float, step: int) -> Reaction:
        """Take note of a validation loss (lower is better) after ``step`` optimizer steps."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers that :meth:`load_state_dict` takes."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        ...


class Adversarial(Protocol):
    """A regularizer with an opponent: the trainer steps ``adversary`` with its own optimizer after each model step.

    The optimizer is Adam with ``adversary_lr``, or what ``adversary_optimizer(parameters)`` returns where the
    regularizer defines it.
    """

    adversary: nn.Module
    adversary_lr: float

    def adversary_loss(self, inference: Inference) -> Tensor:
        """Return the scalar that ``adversary``'s parameters minimise; the inference's tensors come detached."""
        ...


class JudgesEpochs(Protocol):
    """A strategy that decides by validation data defines ``epoch_ended``; the trainer calls it after every epoch."""

    def epoch_ended(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> None:
        """Take note of the model after an epoch.

        Args:
            model: In evaluation mode, without gradients, with averaged weights if there are any.
            batches: Starts a fresh pass over the validation split; the same on every process.
        """
        ...


class NeedsTrainingData(Protocol):
    """An estimator or a sampler that reads the training data before it answers (a classifier that learns on them,
    chains that start from them) defines ``prepare``; evaluation and the command line call it first.
    """

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Take in the training data; ``batches()`` starts a fresh pass over the training split."""
        ...


class ReportsProgress(Protocol):
    """What may draw for long, a sampler or a decoder's distribution, has an attribute ``progress``: whoever wants to
    know how far it is sets it, as the command line does.
    """

    progress: Callable[[float], object] | None
    """Called now and then with the share of the draws that is done, up to 1."""


class SeesWeights(Protocol):
    """An observer that wants to know the values of schedules has an attribute ``weights``; the trainer sets it before
    each call.
    """

    weights: Mapping[str, float]
    """Values of the step's schedules by name, ``rate_weight`` say."""

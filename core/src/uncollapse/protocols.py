"""The protocols that parts speak and the records that they exchange.

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

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

if TYPE_CHECKING:
    from .inference import Inference
    from .model import LatentVariableModel

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
    "mixed",
    "output_channels",
]

Support = Literal["binary", "unit_interval", "bytes", "real", "tokens"]
"""Where the values of data lie; see :class:`DataSpec`."""


# ------------------------------------------------------------------------------------------------------------ records


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples that are processed together.

    Args:
        x: Data ``[B, *X]``.
        labels: Class indices ``[B]``, or None.
        mask: True where a token is real ``[B, T]``, or None where every position counts.
    """

    x: Tensor
    labels: Tensor | None = None
    mask: Tensor | None = None

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on ``device``."""
        x, labels, mask = (
            None if t is None else t.to(device, non_blocking=True) for t in (self.x, self.labels, self.mask)
        )
        return Batch(cast(Tensor, x), labels, mask)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the run stands when a step begins.

    Args:
        step: Optimizer steps done so far (0 in the first step).
        steps_per_epoch: Steps of one pass over the training data.
        total_steps: Steps of the whole run; None where nobody knows.
        final: True where every schedule is to answer its final value: evaluation and model selection.
    """

    step: int = 0
    steps_per_epoch: int = 1
    total_steps: int | None = None
    final: bool = False

    @property
    def epoch(self) -> int:
        """Whole epochs done so far (0 during the first)."""
        return self.step // self.steps_per_epoch

    @classmethod
    def at_end(cls) -> Progress:
        """Return the progress at which schedules give their final value."""
        return cls(final=True)


@dataclass(frozen=True, slots=True)
class Penalty:
    """What a regularizer adds to the loss.

    Args:
        total: Scalar to add, nats per example; weighted already.
        terms: Named parts, unweighted, each a scalar or per example ``[B]``; logged as ``<regularizer>/<term>``.
    """

    total: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)


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


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured number.

    Args:
        value: The number.
        unit: ``"nats"``, ``"bits/dim"``, ``"units"``, ``"accuracy"``, …
        standard_error: Standard error of ``value``; None where there is none to state (a count, say).
        count: Examples (or draws) behind the number.
        per_dimension: The same quantity per latent dimension ``D``, where that makes sense.
        note: What limits the number: a cap, the number of importance samples.
    """

    value: float
    unit: str
    standard_error: float | None = None
    count: int | None = None
    per_dimension: tuple[float, ...] | None = None
    note: str = ""


Estimates = Mapping[str, Estimate]
"""What an estimator returns: estimates by name."""
Scores = Mapping[str, Estimate]
"""What a probe returns: estimates by name."""


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids of the tokens that no text contains.

    Args:
        padding: Fills up a short text; it has no likelihood.
        start: What a decoder is given before the first token; data do not hold it.
        end: The last token of every text; it has a likelihood like any other.
        unknown: Stands for tokens outside the vocabulary.
    """

    padding: int = 0
    start: int = 1
    end: int = 2
    unknown: int = 3


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What parts need to know of the data.

    Args:
        event_shape: Shape ``X`` of one example, ``(1, 28, 28)`` say.
        support: Where values lie. ``binary`` {0, 1}; ``unit_interval`` [0, 1]; ``bytes`` integers 0..255 as float
            tensors divided by 255 (on the grid k/255); ``real``; ``tokens`` integers below ``vocabulary_size``.
        classes: Number of label classes, or None without labels.
        vocabulary_size: For tokens.
        special: For texts ``[B, T]``, which end in ``end`` and go on in ``padding``; batches may be narrower than
            ``event_shape``, the longest text. None for tokens of which all are data.
    """

    event_shape: tuple[int, ...]
    support: Support
    classes: int | None = None
    vocabulary_size: int | None = None
    special: SpecialTokens | None = None


# ---------------------------------------------------------------------------------------------------------- protocols


class Encoder(Protocol):
    """``encoder(x) -> h``: ``[B, *X] -> [B, *H]``, deterministic features for the posterior."""

    feature_shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor: ...


class Posterior(Protocol):
    """``posterior(h, progress) -> q(z|x)``: batch ``[B]``, event ``D``, with a reparameterized ``rsample``."""

    latent_shape: tuple[int, ...]

    def __call__(self, h: Tensor, progress: Progress | None = None) -> Distribution: ...


class MomentTransform(Protocol):
    """``transform(mean, logvar, progress) -> (mean, logvar)``, all ``[B, *D]``: reshapes a Gaussian before sampling."""

    def __call__(self, mean: Tensor, logvar: Tensor, progress: Progress | None = None) -> tuple[Tensor, Tensor]: ...


class Prior(Protocol):
    """``prior() -> p(z)``: batch ``[]``, event ``D``."""

    def __call__(self) -> Distribution: ...


class Decoder(Protocol):
    """``decoder(z) -> p(x|z)``: ``[..., *D]`` to batch ``[...]``, event ``X``.

    ``log_prob(x)`` of an autoregressive decoder teacher-forces; its ``sample()`` is ancestral.
    """

    def __call__(self, z: Tensor) -> Distribution: ...


class Likelihood(Protocol):
    """``likelihood(outputs) -> p(x|z)``: raw ``[..., O, *rest]`` to batch ``[...]``, event ``X = (C, *rest)``.

    It says how many numbers ``O`` it reads at a position by one of two attributes: ``outputs_per_value``, ``O / C``, or
    ``output_channels``, ``O`` itself, where the channels share some; decoders ask :func:`output_channels`.
    """

    def __call__(self, outputs: Tensor) -> Distribution: ...


class Regularizer(Protocol):
    """``regularizer(inference) -> Penalty``, nats per example; couplings in the batch use ``inference.gathered()``."""

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


class Split(Protocol):
    """Part of a data source: a set of examples that yields batches, repeatably.

    ``batches`` gives the same batches for the same arguments, whatever came before: order and noise follow from the
    source's seed and ``epoch``. ``start`` skips that many batches without computing them. With ``world_size`` above
    one, ``batch_size`` is the global batch and each rank gets its equal share of the same global batches.
    """

    spec: DataSpec

    def __len__(self) -> int: ...

    def batches(
        self,
        batch_size: int,
        *,
        epoch: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> Iterator[Batch]:
        """Yield one epoch's batches."""
        ...


class DataSource(Protocol):
    """Where examples come from: what they look like, and the splits."""

    spec: DataSpec
    train: Split
    validation: Split
    test: Split


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


# ---------------------------------------------------------------------------------------------------- optional methods


@runtime_checkable
class Bindable(Protocol):
    """A prior that needs the inference network (VampPrior) defines ``bind``; wiring the model calls it."""

    def bind(self, infer: Callable[[Tensor], Distribution]) -> None:
        """Keep ``infer``: ``x [B, *X] -> q(z|x)``."""
        ...


@runtime_checkable
class Hierarchical(Protocol):
    """A posterior over several levels of latents defines ``top``; ``model.infer_top`` calls it.

    An encoder whose top level has features of its own may define ``top(x)``, which computes these alone.
    """

    def top(self, h: Tensor, progress: Progress | None = None) -> Distribution:
        """Return ``q(z_top|x)``, batch ``[B]``, for features ``h [B, *H]``, or those of the encoder's ``top``."""
        ...


@runtime_checkable
class TopBindable(Protocol):
    """A prior over several levels whose top may need the inference network defines ``bind_top``; wiring the model calls
    it.
    """

    def bind_top(self, infer_top: Callable[[Tensor], Distribution]) -> None:
        """Keep ``infer_top``: ``x [B, *X] -> q(z_top|x)``."""
        ...


@runtime_checkable
class DataInitialized(Protocol):
    """A part that needs data before the first step defines ``initialize``.

    ``model.initialize(batch)`` calls it once, encoder before posterior before prior before decoder, on what the part
    will receive in training: the encoder gets ``x [B, *X]``, the posterior ``h [B, *H]``, the prior ``x``, the decoder
    ``(z, x)`` with ``z [B, *D]``.
    A prior with an attribute ``stored_examples`` above 0 gets so many examples as a :class:`Stored` split keeps them.
    """

    def initialize(self, *inputs: Tensor) -> None:
        """Set parameters from data; runs without gradients."""
        ...


@runtime_checkable
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


@runtime_checkable
class JudgesEpochs(Protocol):
    """A strategy that decides by validation data defines ``epoch_ended``; the trainer calls it after every epoch."""

    def epoch_ended(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> None:
        """Take note of the model after an epoch.

        Args:
            model: In evaluation mode, without gradients, with averaged weights if there are any.
            batches: Starts a fresh pass over the validation split; the same on every process.
        """
        ...


@runtime_checkable
class NeedsTrainingData(Protocol):
    """An estimator or a sampler that reads the training data before it answers (a classifier that learns on them,
    chains that start from them) defines ``prepare``; evaluation and the command line call it first.
    """

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Take in the training data; ``batches()`` starts a fresh pass over the training split."""
        ...


@runtime_checkable
class ReportsProgress(Protocol):
    """What may draw for long, a sampler or a decoder's distribution, has an attribute ``progress``: whoever wants to
    know how far it is sets it, as the command line does.
    """

    progress: Callable[[float], object] | None
    """Called now and then with the share of the draws that is done, up to 1."""


@runtime_checkable
class SeesWeights(Protocol):
    """An observer that wants to know the values of schedules has an attribute ``weights``; the trainer sets it before
    each call.
    """

    weights: Mapping[str, float]
    """Values of the step's schedules by name, ``rate_weight`` say."""


@runtime_checkable
class GroupedSplit(Protocol):
    """A split whose batches hold examples that are alike (texts of one length) defines both of these methods.

    How many batches there are does not follow from the number of examples then, and the first batches are no random
    sample of the split.
    """

    def steps(self, batch_size: int, *, drop_last: bool = False, processes: int = 1) -> int:
        """Return how many batches ``batches`` gives; the trainer asks through :func:`count_batches`."""
        ...

    def mixed(self) -> Split:
        """Return the same examples in batches drawn at random; measurements ask for them through :func:`mixed`."""
        ...


@runtime_checkable
class Stored(Protocol):
    """A split that has its examples as they are before shuffling and before binary draws defines ``stored``."""

    def stored(self, count: int, device: torch.device | str = "cpu") -> Tensor:
        """Return the first ``count`` examples ``[count, *X]``, or all where there are fewer, as they are kept."""
        ...


@runtime_checkable
class KeepsArtifacts(Protocol):
    """A data source that learned something from its data (a vocabulary) defines ``artifacts``.

    A run keeps them, and hands their folder to :meth:`uncollapse.config.DataConfig.rebuild` when it is loaded.
    """

    def artifacts(self) -> Mapping[str, bytes]:
        """Return the content of every file that the run is to keep, by file name; the same data give the same bytes."""
        ...


@runtime_checkable
class ReadsText(Protocol):
    """A data source whose tokens stand for text defines both of these methods; commands and reports call them."""

    def to_tokens(self, texts: Sequence[str]) -> Tensor:
        """Return ``[N, T]``, tokens as batches hold them: ``w1 … wn </s>`` and padding up to the longest.

        Raises:
            DataError: A text has no token, or more than the data's longest may have.
        """
        ...

    def to_texts(self, tokens: Tensor) -> list[str]:
        """Return one text for each row of ``[N, T]``; it ends before the first ``</s>``."""
        ...


def count_batches(split: Split, batch_size: int, *, drop_last: bool = False, processes: int = 1) -> int:
    """Return how many batches an epoch of ``split`` has.

    A batch with fewer examples than there are processes has no share for each of them and is left out.
    """
    if isinstance(split, GroupedSplit):
        return split.steps(batch_size, drop_last=drop_last, processes=processes)
    full, rest = divmod(len(split), batch_size)
    return full + (not drop_last and rest >= processes)


def mixed(split: Split) -> Split:
    """Return ``split`` in batches that are random samples of it when they are shuffled."""
    return split.mixed() if isinstance(split, GroupedSplit) else split


def finished(progress: Progress) -> Progress:
    """Return ``progress`` with every schedule at its final value."""
    return replace(progress, final=True)


def output_channels(likelihood: nn.Module, data_channels: int) -> int:
    """Return how many numbers a decoder is to put out at each position of data with ``data_channels`` channels."""
    own = getattr(likelihood, "output_channels", None)
    return cast(int, likelihood.outputs_per_value) * data_channels if own is None else cast(int, own)

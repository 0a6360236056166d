"""The classifier that learns to read the codes while the model learns to make them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution
from uncollapse.config import BuildContext, ObserverConfig
from uncollapse.errors import ConfigError
from uncollapse.inference import Inference
from uncollapse.initialization import he_normal
from uncollapse.model import LatentVariableModel
from uncollapse.passes import batches_on_device, measuring
from uncollapse.protocols import Batch, Estimate, Estimates, Progress

__all__ = ["Codes", "OnlineClassifier", "OnlineClassifierConfig"]

Codes = Literal["sample", "mean"]

_TYPE = "muvae.classifier"


class OnlineClassifier(nn.Module):
    """Fully connected layers with leaky ReLUs from codes to classes, trained beside the model: *Bridging the ELBO and
    MMD* (2019), section 5 and table 4 (10-1024-1024-1024-10, slope 0.2, Adam at 1e-4).

    After each step of the model it is scored on the batch's codes and only then learns from them, so what the log has
    as ``accuracy`` is never an accuracy on what it was just taught. The codes come detached, and its own start takes
    no random number from anybody else: the model trains as it would without it. Weights start in ``N(0, 2 / fan_in)``
    (appendix B). Its optimizer is part of its state.

    Args:
        latent_size: Numbers in a code, ``K``.
        classes: Number of classes.
        hidden: Widths of the layers.
        lr: Rate of its Adam.
        codes: ``sample``: the draws of ``q(z|x)`` that the decoder is given; ``mean``. The paper does not say which.
    """

    def __init__(
        self,
        latent_size: int,
        classes: int,
        hidden: Sequence[int] = (1024, 1024, 1024),
        lr: float = 1e-4,
        codes: Codes = "sample",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        with torch.random.fork_rng(devices=[]):
            for before, after in pairwise([latent_size, *hidden, classes]):
                layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
            self.network = nn.Sequential(*layers[:-1])
            he_normal(self.network)
        self.codes = codes
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=lr, fused=True)

    def forward(self, inference: Inference, batch: Batch, progress: Progress) -> Mapping[str, Tensor]:
        """Learn one step from a batch with labels ``[B]``; return ``loss`` in nats and ``accuracy``, from before it.

        Raises:
            ConfigError: The batch has no labels, or means were asked for and the posterior has none in closed form.
        """
        codes = inference.z if self.codes == "sample" else _mean(inference.q).unsqueeze(0)
        labels = _labels(batch).expand(len(codes), -1)
        return self.learn(codes.detach().flatten(2).flatten(0, 1).float(), labels.flatten())

    @torch.enable_grad()
    def learn(self, codes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Take one step on codes ``[N, K]`` and labels ``[N]``; return ``loss`` and ``accuracy`` from before it."""
        logits: Tensor = self.network(codes)
        loss = nn.functional.cross_entropy(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach(), "accuracy": (logits.detach().argmax(1) == labels).float().mean()}

    @torch.no_grad()
    def predict(self, codes: Tensor) -> Tensor:
        """Return the likeliest class ``[N]`` of codes ``[N, K]``."""
        return self.network(codes).argmax(1)  # type: ignore[no-any-return]

    def measure(self, model: LatentVariableModel, batches: Callable[[], Iterable[Batch]]) -> Estimates:
        """Return ``online_accuracy`` on a set, the number of the paper's table 1 where that is the test set.

        Args:
            model: The model whose codes it has learned to read.
            batches: Starts a pass over the set.

        Raises:
            ConfigError: The set has no labels, or means were asked for and the posterior has none in closed form.
        """
        right = count = 0
        with measuring(model):
            for batch in batches_on_device(model, batches):
                q = model.infer(batch.x, Progress.at_end())
                codes = q.sample() if self.codes == "sample" else _mean(q)
                right += int((self.predict(codes.flatten(1).float()) == _labels(batch)).sum())
                count += len(batch)
        value = right / count
        error = math.sqrt(value * (1 - value) / count)
        return {"online_accuracy": Estimate(value, "accuracy", error, count, note=f"{self.codes}s of q(z|x)")}

    def get_extra_state(self) -> dict[str, Any]:
        """Return the optimizer's state, which ``state_dict`` holds beside the weights."""
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the optimizer's state."""
        self.optimizer.load_state_dict(state)


def _mean(q: Distribution) -> Tensor:
    try:
        return q.mean
    except NotImplementedError as error:
        raise ConfigError(
            f"training.observers ({_TYPE}): codes: mean needs a posterior whose mean is known, found "
            f"{type(q).__name__}; use codes: sample"
        ) from error


def _labels(batch: Batch) -> Tensor:
    if batch.labels is None:
        raise ConfigError(
            f"training.observers ({_TYPE}): a classifier needs labels, but the data have none; leave it out"
        )
    return batch.labels


class OnlineClassifierConfig(ObserverConfig):
    """A classifier trained on detached codes beside the model: *Bridging the ELBO and MMD* (2019), section 5."""

    type: Literal["muvae.classifier"] = "muvae.classifier"
    hidden: tuple[PositiveInt, ...] = Field((1024, 1024, 1024), description="widths of the layers", examples=[(8,)])
    lr: PositiveFloat = Field(1e-4, description="rate of its Adam")
    codes: Codes = Field("sample", description="draws of q(z|x), as the decoder gets them, or its mean")

    def build(self, context: BuildContext) -> OnlineClassifier:
        """Return the observer.

        Raises:
            ConfigError: The data have no labels.
        """
        if context.data.classes is None:
            raise ConfigError(
                f"training.observers ({_TYPE}): a classifier needs labels, but the data have none; leave it out"
            )
        return OnlineClassifier(context.latent_size, context.data.classes, self.hidden, self.lr, self.codes)

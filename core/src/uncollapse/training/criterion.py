"""One training step's loss: objective and regularizers over one batch, as a module that data parallelism can wrap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..capabilities import supports
from ..model import LatentVariableModel
from ..protocols import Adversarial, Batch, Objective, Outcome, Progress, Regularizer

__all__ = ["Criterion"]


class Criterion(nn.Module):
    """Objective plus regularizers: ``criterion(batch, progress) -> Outcome``.

    Accelerate wraps this module, so that everything with parameters (the model, and objectives or regularizers that are
    modules) takes part in data parallelism. Each process sees its equal share of the global batch and gradients are
    averaged: means over the batch come out as one process would have them, and so does what a regularizer computes from
    ``inference.gathered()``.

    Args:
        model: The model.
        objective: What a step minimises.
        regularizers: Penalties by name.
    """

    def __init__(
        self, model: LatentVariableModel, objective: Objective, regularizers: Mapping[str, Regularizer]
    ) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.regularizers = dict(regularizers)
        # A module's name must not contain a dot, and a component's type does.
        self.parts = nn.ModuleDict(
            {name.replace(".", ":"): r for name, r in self.regularizers.items() if isinstance(r, nn.Module)}
        )

    def forward(self, batch: Batch, progress: Progress) -> Outcome:
        """Return the loss of ``batch`` (this process's share of it) at ``progress``."""
        loss = self.objective(self.model, batch, progress)
        total = loss.total
        terms = {name: term.detach() for name, term in loss.terms.items()}
        for name, regularizer in self.regularizers.items():
            penalty = regularizer(loss.inference)
            total = total + penalty.total
            terms[name] = penalty.total.detach()
            for term, value in penalty.terms.items():
                terms[f"{name}/{term}"] = value.detach()
        terms["loss"] = total.detach()
        return Outcome(total, terms, loss.weights, loss.inference)

    def adversaries(self) -> dict[str, Adversarial]:
        """Return the regularizers that have an opponent."""
        return {name: r for name, r in self.regularizers.items() if supports(r, Adversarial)}

    def trainable(self) -> list[nn.Parameter]:
        """Return the parameters that the model's optimizer steps: all but those of opponents."""
        theirs = {id(p) for a in self.adversaries().values() for p in a.adversary.parameters()}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in theirs]

    def side_state(self) -> dict[str, Any]:
        """Return the state of everything but the model."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("model.")}

    def load_side_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`side_state` returned.

        Raises:
            RuntimeError: Names or shapes differ.
        """
        own = {name: value for name, value in self.state_dict().items() if name.startswith("model.")}
        with torch.no_grad():
            self.load_state_dict({**own, **state})

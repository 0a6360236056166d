"""Stochastic variational inference on the moments of each example, and gradients through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from uncollapse.distributions import DiagonalNormal

__all__ = ["FiniteDifferences", "Refinement"]

Moments = tuple[Tensor, Tensor]
LossOf = Callable[[DiagonalNormal], Tensor]


@dataclass(frozen=True)
class Refinement:
    """Gradient steps with momentum on the moments of Gaussian posteriors: Kim et al., Semi-Amortized Variational
    Autoencoders (2018), algorithm 1, https://arxiv.org/abs/1802.02550, with the momentum of its released code.

    ``v <- momentum v - g``, ``moments <- moments + lr v``, where ``g`` is the loss's gradient.

    Args:
        steps: Steps ``K``.
        lr: Learning rate of means and log-variances.
        momentum: Of the steps.
        clip: Largest norm of the gradient of the means, and of that of the log-variances; None for no limit.
        scale: ``example``: gradients are of each example's own loss, as in the paper, and clipped by example.
            ``batch``: of the batch's mean loss, as released, and clipped for the whole batch at once; an example's step
            is then ``lr / B``.
    """

    steps: int = 20
    lr: float = 0.02
    momentum: float = 0.5
    clip: float | None = None
    scale: Literal["batch", "example"] = "example"

    def gradients(self, loss: Tensor, moments: Moments, create_graph: bool = False) -> Moments:
        """Return the clipped gradient of ``loss``, a mean over the batch, with respect to the moments."""
        mean, logvar = torch.autograd.grad(loss * self.factor(moments), moments, create_graph=create_graph)
        return self.clipped(mean), self.clipped(logvar)

    def clipped(self, gradient: Tensor) -> Tensor:
        """Return ``gradient [B, *D]`` with a norm of at most ``clip``; differentiable."""
        if self.clip is None:
            return gradient
        squares = gradient.square()
        if self.scale == "batch":
            total = squares.sum()
        else:
            total = squares.flatten(1).sum(1).view(-1, *[1] * (gradient.dim() - 1))
        # The root's slope at 0 is infinite, and some gradients are 0: of variances that dropped out, say.
        norm = total.clamp(min=1e-24).sqrt()
        return gradient * (self.clip / (norm + 1e-6)).clamp(max=1)

    def factor(self, moments: Moments) -> float:
        """Return what turns the mean loss of this process's share into that whose gradients are taken."""
        if self.scale == "example":
            return len(moments[0])
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        return 1 / torch.distributed.get_world_size() if distributed else 1.0

    def __call__(self, loss_of: LossOf, q: DiagonalNormal, create_graph: bool = False) -> DiagonalNormal:
        """Return the refined posterior, batch ``[B]``.

        Args:
            loss_of: The loss of a posterior, a mean over the batch.
            q: Where the steps begin.
            create_graph: Keep what the result's gradient with respect to ``q`` and to the loss's parameters needs.
        """
        event_dim = len(q.event_shape)
        moments: Moments = (q.mean, q.logvar) if create_graph else _leaves((q.mean, q.logvar))
        velocity: Moments | None = None
        with torch.enable_grad():
            for _ in range(self.steps):
                gradients = self.gradients(loss_of(DiagonalNormal(*moments, event_dim)), moments, create_graph)
                velocity = self.accelerated(velocity, gradients)
                moments = self.moved(moments, velocity)
                if not create_graph:
                    moments = _leaves(moments)
        return DiagonalNormal(*(moments if create_graph else _detached(moments)), event_dim)

    def accelerated(self, velocity: Moments | None, gradients: Moments) -> Moments:
        """Return the next velocity."""
        if velocity is None:
            return -gradients[0], -gradients[1]
        return self.momentum * velocity[0] - gradients[0], self.momentum * velocity[1] - gradients[1]

    def moved(self, moments: Moments, velocity: Moments) -> Moments:
        """Return the next moments."""
        return moments[0] + self.lr * velocity[0], moments[1] + self.lr * velocity[1]


class FiniteDifferences:
    """Steps of a :class:`Refinement` and the way back through them by finite differences, as in the released code of
    Kim et al. (2018), algorithm 2 with ``H v = (grad(x + eps v) - grad(x)) / eps``.

    It stores numbers where autograd stores graphs, and evaluates each step's loss once more on the way back, with the
    noise of the way there. In float32 a difference over 1e-5 has two or three digits. What flows back is clipped like
    the steps themselves, and the terms of all parameters together to the same norm; the released code clips the second
    evaluation together with the parameters' gradients, but not the first.

    Args:
        refinement: The steps.
        loss_of: The loss of a posterior, a mean over the batch.
        parameters: Whose gradients get their second-order terms.
        epsilon: Length of the differences.
    """

    def __init__(
        self, refinement: Refinement, loss_of: LossOf, parameters: Sequence[Tensor], epsilon: float = 1e-5
    ) -> None:
        self.refinement, self.loss_of, self.parameters, self.epsilon = refinement, loss_of, parameters, epsilon
        self._kept: list[tuple[_Noise, Moments, Moments, list[Tensor]]] = []
        self._event_dim = 1

    def forward(self, q: DiagonalNormal) -> DiagonalNormal:
        """Return the refined posterior; its moments are leaves that want a gradient."""
        self._event_dim, self._kept = len(q.event_shape), []
        moments, velocity = _leaves((q.mean, q.logvar)), None
        for _ in range(self.refinement.steps):
            noise = _Noise(moments[0].device)
            own, others = self._gradients(moments)
            self._kept.append((noise, moments, own, others))
            velocity = self.refinement.accelerated(velocity, own)
            moments = _leaves(self.refinement.moved(moments, velocity))
        return DiagonalNormal(*moments, self._event_dim)

    def backward(self, gradients: Moments) -> tuple[Moments, list[Tensor]]:
        """Return the gradients of the moments that the steps began with, and second-order terms for the parameters.

        Args:
            gradients: Of the final loss with respect to the refined moments.
        """
        refinement = self.refinement
        pull: Moments = (torch.zeros_like(gradients[0]), torch.zeros_like(gradients[1]))
        terms = [torch.zeros_like(p) for p in self.parameters]
        for noise, moments, own, others in reversed(self._kept):
            pull = (pull[0] + refinement.lr * gradients[0], pull[1] + refinement.lr * gradients[1])
            aside = _leaves((moments[0] + self.epsilon * pull[0], moments[1] + self.epsilon * pull[1]))
            with noise.replayed():
                own_aside, others_aside = self._gradients(aside)
            mixed = [(a - b) / self.epsilon for a, b in zip(others_aside, others, strict=True)]
            for term, part in zip(terms, self._limited(mixed), strict=True):
                term.sub_(part)
            mean, logvar = (
                refinement.clipped(g - (a - b) / self.epsilon)
                for g, a, b in zip(gradients, own_aside, own, strict=True)
            )
            gradients = (mean, logvar)
            pull = (refinement.momentum * pull[0], refinement.momentum * pull[1])
        return gradients, terms

    def _gradients(self, moments: Moments) -> tuple[Moments, list[Tensor]]:
        """Return the gradients of the loss with respect to the moments, clipped, and to the parameters."""
        loss = self.loss_of(DiagonalNormal(*moments, self._event_dim)) * self.refinement.factor(moments)
        found = torch.autograd.grad(loss, [*moments, *self.parameters], allow_unused=True)
        others = [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, found[2:], strict=True)]
        return (self.refinement.clipped(found[0]), self.refinement.clipped(found[1])), others

    def _limited(self, tensors: list[Tensor]) -> list[Tensor]:
        limit = self.refinement.clip
        if limit is None or not tensors:
            return tensors
        norm = torch.stack([t.square().sum() for t in tensors]).sum().sqrt()
        return [t * (limit / (norm + 1e-6)).clamp(max=1) for t in tensors]


class _Noise:
    """The state of torch's generators, to draw the same again."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._state = self._get()

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Draw inside what was drawn when the state was taken, and go on outside as if nothing had been drawn."""
        now = self._get()
        self._set(self._state)
        try:
            yield
        finally:
            self._set(now)

    def _get(self) -> list[Tensor]:
        own = [torch.cuda.get_rng_state(self._device)] if self._device.type == "cuda" else []
        return [torch.get_rng_state(), *own]

    def _set(self, state: list[Tensor]) -> None:
        torch.set_rng_state(state[0])
        if len(state) > 1:
            torch.cuda.set_rng_state(state[1], self._device)


def _leaves(moments: Moments) -> Moments:
    return moments[0].detach().requires_grad_(), moments[1].detach().requires_grad_()


def _detached(moments: Moments) -> Moments:
    return moments[0].detach(), moments[1].detach()

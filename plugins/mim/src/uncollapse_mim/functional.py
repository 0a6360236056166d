"""MIM's losses as pure functions on log densities, and mutual information from nearest neighbours on arrays.

Livne, Swersky and Fleet, MIM: Mutual Information Machine (2019), https://arxiv.org/abs/1910.03175; equations,
algorithms and sections are those of the version under review for ICLR 2020.

A pair ``(x, z)`` comes either from the encoding distribution, ``x ~ P(x)`` and ``z ~ q(z|x)`` (the encode half), or
from the decoding distribution, ``z ~ P(z)`` and ``x ~ p(x|z)`` (the decode half). The same formulas serve both; what
differs is how ``log q(x)`` and ``log p(z)`` are estimated where they are marginals. All log densities are nats, of any
common shape, and include their constants: the entropies that MIM's losses bound do not cancel ``log 2π``.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .information import Information, ksg

__all__ = [
    "Baseline",
    "Halves",
    "Information",
    "Warmup",
    "combine",
    "cross_entropy_loss",
    "joint_entropy",
    "joint_log_densities",
    "ksg",
    "marginal_log_density",
    "mim_loss",
    "mim_minus_entropy_loss",
    "mixture_entropy",
    "reinforce",
]

Warmup = Literal["paper", "released_toy", "released_image"]
"""Where the warm-up's weight stands: as in the paper, or as in the released toys or image models."""
Halves = Literal["average", "sum"]
"""How the losses of both halves are put together; see :func:`combine`."""
Baseline = Literal["none", "leave_one_out"]
"""What is subtracted from the loss before REINFORCE; see :func:`reinforce`."""


def joint_log_densities(
    log_q_z: Tensor, log_q_x: Tensor, log_p_x: Tensor, log_p_z: Tensor, beta: float = 1.0, warmup: Warmup = "paper"
) -> tuple[Tensor, Tensor]:
    """Return ``log p(x,z)`` and ``log q(x,z)``, with the warm-up's weight ``beta`` where ``warmup`` places it.

    Args:
        log_q_z: ``log q(z|x)`` of pairs ``[...]``, nats, as all of these.
        log_q_x: ``log q(x)``.
        log_p_x: ``log p(x|z)``.
        log_p_z: ``log p(z)``; for ``released_image`` with ``beta`` on its topmost level already.
        beta: Weight of the warm-up, 0 to 1.
        warmup: ``paper``: on ``log q(x)`` and ``log p(z)``, eq. 12. ``released_toy`` and ``released_image``: on
            ``log q(z|x)`` and ``log q(x)``.
    """
    if warmup == "paper":
        return log_p_x + beta * log_p_z, log_q_z + beta * log_q_x
    return log_p_x + log_p_z, beta * (log_q_z + log_q_x)


def mim_loss(
    log_q_z: Tensor, log_q_x: Tensor, log_p_x: Tensor, log_p_z: Tensor, beta: float = 1.0, warmup: Warmup = "paper"
) -> Tensor:
    """Return ``-1/2 [log q(z|x) + log q(x) + log p(x|z) + log p(z)]`` of every pair: eq. 22, with ``beta`` eq. 12.

    Arguments are those of :func:`joint_log_densities`.
    """
    log_p, log_q = joint_log_densities(log_q_z, log_q_x, log_p_x, log_p_z, beta, warmup)
    return -0.5 * (log_p + log_q)


def cross_entropy_loss(
    log_q_z: Tensor, log_q_x: Tensor, log_p_x: Tensor, log_p_z: Tensor, beta: float = 1.0, warmup: Warmup = "paper"
) -> Tensor:
    """Return ``-log 1/2 [q(z|x) q(x) + p(x|z) p(z)]`` of every pair: ``L_CE``, eq. 7.

    Never above :func:`mim_loss` of the same pair (Jensen, eq. 8); the difference is the consistency regularizer of
    eq. 9. The paper gives it no warm-up; ``beta`` is placed as in the MIM loss.
    """
    log_p, log_q = joint_log_densities(log_q_z, log_q_x, log_p_x, log_p_z, beta, warmup)
    return math.log(2) - torch.logaddexp(log_p, log_q)


def mixture_entropy(log_q_z: Tensor, log_q_x: Tensor, log_p_x: Tensor, log_p_z: Tensor) -> Tensor:
    """Return the terms of the joint entropy under the mixture ``1/2 (q(x,z) + p(x,z))``, appendix E.1.

    The sample distribution's own density is not known, so the model's stands for it: these are the terms of ``L_CE``,
    ``[...]``, nats.
    """
    return cross_entropy_loss(log_q_z, log_q_x, log_p_x, log_p_z)


def mim_minus_entropy_loss(
    log_q_z: Tensor, log_q_x: Tensor, log_p_x: Tensor, log_p_z: Tensor, beta: float = 1.0, warmup: Warmup = "paper"
) -> Tensor:
    """Return the MIM loss of every pair less the joint entropy of the mixture: "MIM-H" of appendix E.1.

    ``[...]``, nats. It is what makes MIM collapse. As in the released code ``beta`` does not weight the entropy.
    """
    loss = mim_loss(log_q_z, log_q_x, log_p_x, log_p_z, beta, warmup)
    return loss - mixture_entropy(log_q_z, log_q_x, log_p_x, log_p_z)


def joint_entropy(log_q_z: Tensor, log_q_x: Tensor) -> Tensor:
    """Return ``-(log q(z|x) + log q(x))`` of every pair ``[...]``, nats: what "VAE+H" of appendix E.1 adds to a VAE."""
    return -(log_q_z + log_q_x)


def marginal_log_density(log_likelihood: Tensor, log_prior: Tensor, log_proposal: Tensor) -> Tensor:
    """Return ``log`` of a marginal by importance sampling with a single sample, appendix C.1.

    For ``q(x) = E_p(z)[p(x|z)]``, eq. 23, and ``z ~ q(z|x)``: ``log p(x|z) + log p(z) - log q(z|x)``. A lower bound in
    expectation, tight for the exact posterior.
    """
    return log_likelihood + log_prior - log_proposal


def combine(encode: Tensor, decode: Tensor, halves: Halves = "average") -> Tensor:
    """Return the loss of both halves, given the mean of each: scalars, nats.

    Args:
        encode: Mean loss of pairs from the encoding distribution.
        decode: Mean loss of pairs from the decoding distribution.
        halves: ``average``, as algorithm 2; ``sum``, as the released codes train and report.

    Raises:
        ValueError: ``halves`` is neither.
    """
    if halves == "average":
        return 0.5 * (encode + decode)
    if halves == "sum":
        return encode + decode
    raise ValueError(f"halves must be 'average' or 'sum'; found {halves!r}")


def reinforce(loss: Tensor, log_prob: Tensor, baseline: Baseline = "none") -> Tensor:
    """Return ``loss`` with the gradient of REINFORCE added: the same values, another derivative.

    For ``x`` drawn from ``p`` without a path for the gradient, the derivative of ``E_p[loss(x)]`` is
    ``E_p[d loss + loss d log p(x)]``, appendix C.2: Sutton et al. (1999).

    Args:
        loss: Loss of every draw, ``[N]``.
        log_prob: ``log p`` of the draws with gradient, ``[N]``.
        baseline: ``none``, as the paper and the released code; ``leave_one_out``: every draw's loss counts relative to
            the mean of the others', which leaves the expectation as it is and takes most of the noise. A single draw
            has no others and keeps its loss.

    Raises:
        ValueError: ``baseline`` is neither.
    """
    signal = loss.detach()
    if baseline == "leave_one_out":
        if len(signal) > 1:
            signal = signal - (signal.sum(0) - signal) / (len(signal) - 1)
    elif baseline != "none":
        raise ValueError(f"baseline must be 'none' or 'leave_one_out'; found {baseline!r}")
    return loss + signal * (log_prob - log_prob.detach())

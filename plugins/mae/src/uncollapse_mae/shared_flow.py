"""Which posteriors can be compared through their Gaussian bases."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution
from uncollapse.distributions import DiagonalNormal, gaussian_base
from uncollapse.errors import ConfigError

__all__ = ["depends_on_example", "is_flow", "require_gaussian_base"]


def require_gaussian_base(q: Distribution, place: str) -> DiagonalNormal:
    """Return the diagonal Gaussian under ``q``.

    Raises:
        ConfigError: There is none; the message begins with ``place``.
    """
    base = gaussian_base(q)
    if base is None:
        raise ConfigError(
            f"{place}: the divergence between posteriors is known for diagonal Gaussians and for flows over them, "
            f"found {type(q).__name__}; use model.posterior: {{type: gaussian}}"
        )
    return base


def is_flow(q: Distribution) -> bool:
    """Return whether ``q`` is more than its Gaussian base."""
    return getattr(q, "base", None) is not None


def depends_on_example(q: Distribution, place: str) -> bool:
    """Return whether a flow maps one base point to different places for different examples of the batch.

    ``KL(q_i || q_j)`` equals that of the bases where both are carried by the same bijection, and only there. It is
    tried out, because nothing about a flow's type says what its networks read.

    Args:
        q: A flow with batch ``[B]``: ``base``, and ``transform`` from the posterior's space to the base's.
        place: Where in the config, for the message.

    Raises:
        ConfigError: ``q`` shows no invertible ``transform`` that could be tried.
    """
    transform = getattr(q, "transform", None)
    if not isinstance(transform, torch.distributions.Transform):
        raise ConfigError(
            f"{place}: {type(q).__name__} has a Gaussian base but no `transform` that would show whether all examples "
            "share the flow; in your own loop, pass the base itself if they do"
        )
    mean = require_gaussian_base(q, place).mean
    with torch.no_grad():
        # The sampling direction: training goes through it anyway, so it is the cheap one where the two differ.
        image: Tensor = transform.inv(mean.mean(0).expand_as(mean))
        spread = (image - image[:1]).abs().max()
        return bool(spread > 1e-4 * (1 + image.abs().max()))

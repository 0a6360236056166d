"""Which examples a probe may see the labels of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from uncollapse.errors import ConfigError

__all__ = ["IntArray", "stratified_draw"]

IntArray = npt.NDArray[np.int64]


def stratified_draw(labels: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    """Return ``count`` indices into ``labels [N]``, every class present and otherwise in proportion to its size.

    Raises:
        ConfigError: ``count`` is more than there are, or fewer than there are classes.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    if not len(classes) <= count <= len(labels):
        raise ConfigError(
            f"evaluation.probes.labels: found {count}; allowed: from {len(classes)} (one for each class) to "
            f"{len(labels)} (the training set), or 'all'"
        )
    share = count * sizes / len(labels)
    quota = np.clip(np.floor(share).astype(np.int64), 1, sizes)
    while quota.sum() != count:
        step = int(np.sign(count - quota.sum()))
        # The class farthest from its share moves, among those that can give or take one.
        movable = quota < sizes if step > 0 else quota > 1
        quota[np.argmax(np.where(movable, step * (share - quota), -np.inf))] += step
    chosen = [rng.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, quota, strict=True)]
    return np.sort(np.concatenate(chosen))

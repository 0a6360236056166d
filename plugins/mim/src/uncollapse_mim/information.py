"""Mutual information of two sets of paired points from the distances to nearest neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln

__all__ = ["Algorithm", "Information", "Norm", "ksg"]

Algorithm = Literal["ksg1", "ksg2", "revised"]
Norm = Literal["max", "euclidean"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Information:
    """An estimate of mutual information.

    Args:
        terms: One number a point, ``[N]``, whose mean is the estimate, nats.
        ceiling: The largest value that the estimator can give for so many points and neighbours, nats.
        ties: Points whose k-th neighbour is no nearer than the next one: none where the values are continuous.
    """

    terms: FloatArray
    ceiling: float
    ties: int

    @property
    def value(self) -> float:
        """The estimate, nats; below zero by chance where the truth is near zero."""
        return float(self.terms.mean())


def ksg(
    x: npt.ArrayLike,
    z: npt.ArrayLike,
    neighbors: int = 5,
    algorithm: Algorithm = "ksg1",
    norm: Norm = "max",
) -> Information:
    """Estimate ``I(x; z)`` from paired points by the distances to their k-th neighbours in the joint space.

    ``ksg1`` and ``ksg2``: Kraskov, Stögbauer and Grassberger, Estimating Mutual Information (2004), eq. 8 and 9,
    https://arxiv.org/abs/cond-mat/0305641. ``revised``: the bias-improved KSG estimator of Gao, Oh and Viswanath,
    Demystifying Fixed k-Nearest Neighbor Information Estimators (2018), https://arxiv.org/abs/1604.03006.

    All of them saturate: neighbourhoods hold ``k`` points at least, so no value can exceed about ``log N - psi(k)``,
    and estimates fall short well before. Coordinates count as they are; no one is rescaled.

    Args:
        x: ``[N, Dx]``.
        z: ``[N, Dz]``.
        neighbors: ``k``.
        algorithm: Which estimator.
        norm: Distance inside ``x``, inside ``z`` and in the joint space: the largest coordinate, as Kraskov et al. have
            it, or Euclidean, for ``revised`` only.

    Returns:
        The estimate with its terms, its ceiling, and the number of tied points. Where ``k`` others coincide with a
        point altogether, those that coincide with it in one space count as its neighbours there.

    Raises:
        ValueError: There are not more points than neighbours, the sets differ in length, values are not finite, or the
            norm is not one of the algorithm's.
    """
    first, second = _points(x, "x"), _points(z, "z")
    count = len(first)
    if len(second) != count:
        raise ValueError(f"x and z must be paired; found {count} and {len(second)} points")
    if not 0 < neighbors < count:
        raise ValueError(f"neighbors must be 1 to {count - 1} for {count} points; found {neighbors}")
    if norm == "euclidean" and algorithm != "revised":
        raise ValueError(f"{algorithm} is defined in the max norm; use algorithm 'revised' for the Euclidean one")
    p = math.inf if norm == "max" else 2.0
    joint = np.concatenate([first, second], axis=1)
    distances, indices = cKDTree(joint).query(joint, k=min(neighbors + 2, count), p=p)
    radius = distances[:, neighbors]
    ties = int((distances[:, neighbors + 1] == radius).sum()) if count > neighbors + 1 else 0
    if algorithm == "ksg2":
        chosen = _others(indices, neighbors)
        counts = [_count(part, _reach(part, chosen)) for part in (first, second)]
        constant = float(digamma(neighbors) - 1 / neighbors + digamma(count))
        terms = constant - digamma(counts[0]) - digamma(counts[1])
        ceiling = float(constant - 2 * digamma(neighbors))
    elif algorithm == "revised":
        counts = [_count(part, radius, p) for part in (first, second)]
        volumes = _log_ball(first.shape[1], p) + _log_ball(second.shape[1], p) - _log_ball(joint.shape[1], p)
        constant = float(digamma(neighbors) + math.log(count) + volumes)
        terms = constant - np.log(counts[0]) - np.log(counts[1])
        ceiling = constant - 2 * math.log(neighbors)
    elif algorithm == "ksg1":
        # Strictly inside the radius, unless there is nothing inside.
        inside = np.where(radius > 0, np.nextafter(radius, 0), 0.0)
        counts = [_count(part, inside) for part in (first, second)]
        constant = float(digamma(neighbors) + digamma(count))
        terms = constant - digamma(counts[0] + 1) - digamma(counts[1] + 1)
        ceiling = float(constant - 2 * digamma(neighbors))
    else:
        raise ValueError(f"algorithm must be 'ksg1', 'ksg2' or 'revised'; found {algorithm!r}")
    return Information(terms, ceiling, ties)


def _points(values: npt.ArrayLike, name: str) -> FloatArray:
    points = np.asarray(values, dtype=np.float64)
    points = points.reshape(len(points), -1)
    if not np.isfinite(points).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    return points


def _count(points: FloatArray, radius: FloatArray, p: float = math.inf) -> FloatArray:
    """Return how many other points lie within each point's radius, its border included, ``[N]``."""
    found: Any = cKDTree(points).query_ball_point(points, radius, p=p, return_length=True)
    return np.asarray(found, dtype=np.float64) - 1


def _others(indices: npt.NDArray[np.intp], neighbors: int) -> npt.NDArray[np.intp]:
    """Return every point's ``k`` neighbours without itself, ``[N, k]``."""
    # Among coinciding points it need not be the first.
    own = np.arange(len(indices))[:, None]
    order = np.argsort(indices == own, axis=1, kind="stable")
    return np.take_along_axis(indices, order, axis=1)[:, :neighbors]


def _reach(points: FloatArray, chosen: npt.NDArray[np.intp]) -> FloatArray:
    """Return the largest coordinate's distance to any of a point's neighbours, ``[N]``."""
    differences = np.abs(points[chosen] - points[:, None])
    reach: FloatArray = differences.max(axis=(1, 2))
    return reach


def _log_ball(dimensions: int, p: float) -> float:
    """Return the logarithm of the volume of the unit ball."""
    if math.isinf(p):
        return dimensions * math.log(2)
    return float(0.5 * dimensions * math.log(math.pi) - gammaln(0.5 * dimensions + 1))

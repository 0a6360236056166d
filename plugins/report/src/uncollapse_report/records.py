"""What a report is made of: plain records of arrays and words, with nothing of the model left in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from uncollapse.findings import Finding
from uncollapse.plugins import ReportSection
from uncollapse.protocols import Estimate
from uncollapse_images.pictures import PixelArray

__all__ = ["Curve", "FloatArray", "LatentMap", "Panel", "Pictures", "ReportRun", "Section", "Views"]

FloatArray = npt.NDArray[np.float64]

Section = Literal["training", "kl", "pictures", "latents"]
"""Parts of the page that a run may have nothing for; ``omitted`` says why."""


@dataclass(frozen=True)
class Curve:
    """One quantity over training.

    Args:
        quantity: ``loss``, ``rate``, ``distortion`` or a regularizer's name.
        split: ``train`` or ``validation``.
        epochs: ``[n]``, increasing.
        values: ``[n]``, nats per example.
    """

    quantity: str
    split: str
    epochs: FloatArray
    values: FloatArray


@dataclass(frozen=True)
class Pictures:
    """What the model draws; bytes, ready to be shown.

    Args:
        originals: Examples ``[K, H, W, C]``.
        samples: Draws of ``p(x|z)``, z drawn from ``q(z|x)`` of the examples, ``[K, H, W, C]``.
        means: Means of the same ``p(x|z)`` ``[K, H, W, C]``; None where it has none in closed form.
        prior: Images of latents drawn from the prior ``[M, H, W, C]``.
        traversals: One latent dimension a row, its value changing along the columns, ``[R, T, H, W, C]``.
        traversed: Index of each row's dimension, ``R`` of them.
        positions: Values ``[T]`` in standard deviations of the prior, 0 its mean.
        show_means: Whether ``prior`` and ``traversals`` are means of ``p(x|z)``; else they are draws from it.
    """

    originals: PixelArray
    samples: PixelArray
    means: PixelArray | None
    prior: PixelArray
    traversals: PixelArray
    traversed: tuple[int, ...]
    positions: FloatArray
    show_means: bool


@dataclass(frozen=True)
class Panel:
    """What one run shows in a contributed section.

    Args:
        section: The section.
        html: Its author's HTML; empty where it could not be made.
        why: Why it could not be made.
    """

    section: ReportSection
    html: str
    why: str = ""


@dataclass(frozen=True)
class LatentMap:
    """Codes of examples on a plane.

    Args:
        points: ``[N, 2]``, in the latents' own unit.
        labels: ``[N]`` class indices, or None.
        axes: What the two axes are.
        prior_std: Standard deviation of the prior, averaged over dimensions: the yardstick of the map.
        method: One sentence on how the plane was chosen.
        names: Name of every class, in the order of the indices; empty where the indices are all there is.
    """

    points: FloatArray
    labels: npt.NDArray[np.int64] | None
    axes: tuple[str, str]
    prior_std: float
    method: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Views:
    """What the trained model itself was asked for; None where the run has none of it.

    Args:
        pictures: Images drawn by the model.
        latent_map: Codes on a plane.
        kl_per_dimension: ``[D]``, nats.
        panels: What it shows in contributed sections.
        omitted: Why a section has nothing to show.
    """

    pictures: Pictures | None = None
    latent_map: LatentMap | None = None
    kl_per_dimension: FloatArray | None = None
    panels: tuple[Panel, ...] = ()
    omitted: Mapping[Section, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportRun:
    """Everything that the page says of one run.

    Args:
        name: Shown everywhere; unique on a page.
        description: What the run is for, in the pipeline's words.
        seed: Of the pipeline.
        latent_size: Numbers in one latent; None where nobody measured it.
        evaluated_on: The split and the number of examples behind ``numbers``, in words; empty when not evaluated.
        measured_at: The checkpoint and its step that ``numbers`` are of, in words; empty when not evaluated.
        findings: What was concluded, the gravest first; empty when the run was not measured.
        diagnosis: Content of ``diagnosis.json``; None when the run was not diagnosed.
        numbers: Estimates and scores by name.
        skipped: Why an estimator or probe that was asked for gave no number, by its type.
        curves: Training curves.
        views: What the model showed.
        pipeline: The resolved pipeline as YAML.
        environment: Where the run took place.
    """

    name: str
    description: str = ""
    seed: int | None = None
    latent_size: int | None = None
    evaluated_on: str = ""
    measured_at: str = ""
    findings: tuple[Finding, ...] = ()
    diagnosis: Mapping[str, Any] | None = None
    numbers: Mapping[str, Estimate] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    curves: tuple[Curve, ...] = ()
    views: Views = field(default_factory=Views)
    pipeline: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)

"""Fashion-MNIST on its first principal components."""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from sklearn.decomposition import PCA
from torch import Tensor
from uncollapse.config import DataConfig
from uncollapse.data import InMemorySource, TensorSplit
from uncollapse.protocols import Split
from uncollapse_images.data import FashionMNISTConfig

from .data import RedrawnSplit, seed_of

__all__ = ["PCAFashionMNISTConfig", "random_affine"]

_CHUNK = 4096
_DEGREES, _SHIFT, _SCALES, _SHEAR = 10.0, 0.1, (0.8, 1.2), 5.0


class PCAFashionMNISTConfig(DataConfig):
    """Fashion-MNIST projected on its principal components: Livne et al., MIM (2019), section 5.1 and figure 3,
    https://arxiv.org/abs/1910.03175.

    The components are those of the training images and serve all splits. The released code fits them to training and
    test images apart (``fit: per_split``), so that codes of one split mean nothing in the other, and augments and
    dequantizes the training images only (``augment: true, dequantize: true``).
    """

    type: Literal["mim.pca_fashion_mnist"] = "mim.pca_fashion_mnist"
    batch_size: int = Field(128, ge=1, description="examples of one optimizer step, over all processes")
    root: str = Field("data", description="folder of torchvision's layout; relative to the current folder")
    download: bool = Field(False, description="fetch the files through torchvision where they are missing")
    components: PositiveInt = Field(20, le=784, description="principal components kept")
    fit: Literal["train", "per_split"] = Field(
        "train", description="what they are fitted to: the training images; or each split's own, as the released code"
    )
    augment: bool = Field(
        False, description="turn, shift, scale and shear half of the training images at random, anew in every epoch"
    )
    dequantize: bool = Field(False, description="uniform noise inside a grey level of the training images")
    validation: PositiveInt = Field(10_000, description="training images held out for validation, the last ones")
    limit: PositiveInt | None = Field(None, description="use only the first training images; null for all")

    def build(self, seed: int) -> PCASource:
        """Return the source; see :class:`uncollapse.config.DataConfig`."""
        images = FashionMNISTConfig(
            root=self.root, download=self.download, validation=self.validation, limit=self.limit
        ).build(seed)
        whole = {part: _whole(getattr(images, part)) for part in ("train", "validation", "test")}
        fitted = _fit(whole["train"][0], self.components)
        classes = len(images.label_names)
        held = []
        for part in ("validation", "test"):
            x, labels = whole[part]
            own = fitted if self.fit == "train" else _fit(x, self.components)
            held.append(
                TensorSplit(_project(own, x), labels, support="real", seed=seed_of(seed, part), classes=classes)
            )
        x, labels = whole["train"]
        train: Split
        if self.augment or self.dequantize:
            draw = partial(self._draw, seed, x, labels, fitted)
            train = RedrawnSplit(draw, len(x), classes, seed_of(seed, "order"))
        else:
            train = TensorSplit(
                _project(fitted, x), labels, support="real", seed=seed_of(seed, "order"), classes=classes
            )
        explained = float(np.sum(fitted.explained_variance_ratio_))
        return PCASource(train, held[0], held[1], images.label_names, explained)

    def _draw(self, seed: int, x: Tensor, labels: Tensor, fitted: PCA, epoch: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed_of(seed, "images", epoch))
        projected = []
        for begin in range(0, len(x), _CHUNK):
            part = x[begin : begin + _CHUNK]
            if self.augment:
                chosen = torch.rand(len(part), generator=generator) < 0.5
                part = part.clone()
                part[chosen] = random_affine(part[chosen], generator)
            if self.dequantize:
                noise = torch.rand(part.shape, generator=generator)
                part = ((255 * part + noise) / 256).clamp(1e-3, 1 - 1e-3)
            projected.append(_project(fitted, part))
        return torch.cat(projected), labels


class PCASource(InMemorySource):
    """Three splits of projected images, and how much of the training images' variance the projection keeps.

    Args:
        train: Training examples.
        validation: Examples for model selection.
        test: Examples for the final numbers.
        label_names: Name of every class.
        explained_variance: Share of the variance that the components explain, 0 to 1.
    """

    def __init__(
        self, train: Split, validation: Split, test: Split, label_names: tuple[str, ...], explained_variance: float
    ) -> None:
        super().__init__(train, validation, test, label_names)
        self.explained_variance = explained_variance


def random_affine(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, shift, scale and shear each image at random, by as much as MIM's released code.

    Up to 10 degrees, a tenth of the side, a factor of 0.8 to 1.2, and 5 degrees; nearest pixels, black outside.

    Args:
        images: ``[N, C, H, W]``.
        generator: Of the draws.

    Returns:
        ``[N, C, H, W]``.
    """
    draws = 2 * torch.rand(len(images), 5, generator=generator) - 1
    turn, shear = (torch.deg2rad(degrees * draws[:, i]) for i, degrees in enumerate((_DEGREES, _SHEAR)))
    low, high = _SCALES
    scale = 0.5 * (low + high) + 0.5 * (high - low) * draws[:, 2]
    cos, sin, slope = turn.cos(), turn.sin(), shear.tan()
    # What goes where: scale * rotation * shear of the centred image, then the shift.
    forward = scale[:, None, None] * torch.stack(
        [torch.stack([cos, cos * slope - sin], 1), torch.stack([sin, sin * slope + cos], 1)], 1
    )
    # grid_sample asks where each output pixel comes from. Its coordinates run from -1 to 1, two of them to a side.
    inverse = torch.linalg.inv(forward)
    shift = 2 * _SHIFT * draws[:, 3:, None]
    theta = torch.cat([inverse, -inverse @ shift], dim=2)
    grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, mode="nearest", align_corners=False)


def _whole(split: TensorSplit) -> tuple[Tensor, Tensor]:
    (batch,) = split.batches(len(split))
    assert batch.labels is not None
    return batch.x, batch.labels


def _fit(x: Tensor, components: int) -> PCA:
    # The covariance's eigenvectors: exact, the same for the same images, and a second for all of them.
    return PCA(n_components=components, svd_solver="covariance_eigh").fit(x.flatten(1).numpy())


def _project(fitted: PCA, x: Tensor) -> Tensor:
    mean, basis = (torch.from_numpy(np.asarray(a, dtype=np.float32)) for a in (fitted.mean_, fitted.components_))
    return (x.flatten(1) - mean) @ basis.T

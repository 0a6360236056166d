"""What the trained model itself shows: images, latents on a plane, KL per dimension. Seeded and bounded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from uncollapse.distributions import kl_per_dimension
from uncollapse.model import LatentVariableModel
from uncollapse.passes import AT_END, device_of, exact_gaussian, measuring, posterior_mean
from uncollapse.plugins import ReportSection
from uncollapse.protocols import DataSource, DataSpec, Split, mixed
from uncollapse.randomness import separate_stream
from uncollapse_images.pictures import is_image, pixels

from .records import FloatArray, LatentMap, Panel, Pictures, Section, Views

__all__ = ["BuiltLike", "collect_panels", "collect_views"]

RECONSTRUCTIONS = 8
PRIOR_SAMPLES = 16
TRAVERSED = 3
POSITIONS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
MAPPED = 1000
_CHUNK = 250
_DRAWS_FOR_A_MEAN = 16
_DRAWS_FOR_THE_PRIOR = 2048
_FEWEST_FOR_A_MAP = 3


class BuiltLike(Protocol):
    """What views need of a built pipeline."""

    @property
    def data(self) -> DataSource:
        """Where examples come from."""
        ...

    @property
    def model(self) -> LatentVariableModel:
        """The trained model."""
        ...


def collect_views(built: BuiltLike, split: str, seed: int) -> Views:
    """Ask a trained model for everything that the page shows of it.

    At most 1000 examples are encoded, spread evenly over the split, and 45 images are drawn in one call of the
    decoder, which keeps autoregressive decoders affordable. The global random state is left as it was.

    Args:
        built: Data and trained model.
        split: ``train``, ``validation`` or ``test``.
        seed: Of every draw.
    """
    model, omitted = built.model, dict[Section, str]()
    device = device_of(model)
    with measuring(model), separate_stream(None, device):
        torch.manual_seed(seed)
        x, labels = _examples(getattr(built.data, split), MAPPED)
        x = x.to(device)
        codes, kl = _encode(model, x)
        spec, pictures = built.data.spec, None
        if is_image(spec):
            pictures = _pictures(model, spec, x, codes, kl)
        else:
            omitted["pictures"] = _why_no_pictures(spec)
        latent_map = _latent_map(codes, labels, _prior_moments(model)[1].mean().item())
    if latent_map is not None:
        latent_map = replace(latent_map, names=tuple(getattr(built.data, "label_names", ())))
    else:
        omitted["latents"] = "The codes hold values that are not numbers, or there are too few of them for a map."
    if kl is None:
        omitted["kl"] = (
            "The posterior or the prior is not a diagonal Gaussian, so the rate does not split into dimensions."
        )
    return Views(pictures, latent_map, None if kl is None else _numpy(kl), omitted=omitted)


def collect_panels(built: BuiltLike, split: str, seed: int, sections: Iterable[ReportSection]) -> tuple[Panel, ...]:
    """Ask contributed sections what they show of a trained model; one that fails says why, and the others go on.

    The model is in evaluation mode, no gradients are kept, and every section starts from the same random state; the
    global one is left as it was.
    """
    panels = []
    device = device_of(built.model)
    for section in sections:
        with measuring(built.model), separate_stream(None, device):
            torch.manual_seed(seed)
            try:
                html = section.show(built, split, seed)
            except Exception as error:
                panels.append(Panel(section, "", f"{type(error).__name__}: {error}"))
                continue
        if html is not None:
            panels.append(Panel(section, html))
    return tuple(panels)


def _examples(split: Split, count: int) -> tuple[Tensor, npt.NDArray[np.int64] | None]:
    """Return ``count`` examples spread evenly over the split, so that sets sorted by class are covered too."""
    total = len(split)
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))
    xs: list[Tensor] = []
    labels: list[Tensor] = []
    start = 0
    for batch in mixed(split).batches(_CHUNK):
        inside = torch.from_numpy(chosen[(chosen >= start) & (chosen < start + len(batch))] - start)
        xs.append(batch.x[inside])
        if batch.labels is not None:
            labels.append(batch.labels[inside])
        start += len(batch)
    special = split.spec.special
    if special is None:
        x = torch.cat(xs)
    else:
        # Batches of texts differ in width.
        rows = [row for batch in xs for row in batch]
        x = pad_sequence(rows, batch_first=True, padding_value=special.padding)
    known = torch.cat(labels).cpu().numpy().astype(np.int64) if labels else None
    return x, known if known is not None and len(known) == len(x) else None


def _encode(model: LatentVariableModel, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return posterior means ``[N, D]`` and the mean KL of each dimension ``[D]``, both flattened."""
    prior = exact_gaussian(model.p_z())
    codes, divergences = [], []
    for chunk in torch.split(x, _CHUNK):
        q = model.infer(chunk, AT_END)
        codes.append(posterior_mean(q, _DRAWS_FOR_A_MEAN)[0].flatten(1))
        gaussian = exact_gaussian(q)
        if gaussian is not None and prior is not None:
            divergences.append(kl_per_dimension(gaussian, prior).flatten(1).sum(0))
    return torch.cat(codes), torch.stack(divergences).sum(0) / len(x) if divergences else None


def _prior_moments(model: LatentVariableModel) -> tuple[Tensor, Tensor]:
    """Return the prior's mean and standard deviation ``[D]``, flattened; of draws where no formula is known."""
    prior = model.p_z()
    gaussian = exact_gaussian(prior)
    if gaussian is not None:
        return gaussian.mean.flatten(), gaussian.stddev.flatten()
    draws = prior.sample((_DRAWS_FOR_THE_PRIOR,)).flatten(1)
    return draws.mean(0), draws.std(0)


def _pictures(model: LatentVariableModel, spec: DataSpec, x: Tensor, codes: Tensor, kl: Tensor | None) -> Pictures:
    examples = torch.linspace(0, len(x) - 1, min(RECONSTRUCTIONS, len(x))).round().long().to(x.device)
    originals = x[examples]
    latents = model.infer(originals, AT_END).sample()
    shape = latents.shape[1:]

    spread = codes.var(0, unbiased=False) if kl is None else kl
    traversed = spread.nan_to_num(0.0).topk(min(TRAVERSED, spread.numel())).indices
    mean, std = _prior_moments(model)
    positions = torch.tensor(POSITIONS, device=x.device)
    grid = codes[examples[0]].to(latents.dtype).repeat(len(traversed), len(positions), 1)
    for row, dimension in enumerate(traversed.tolist()):
        grid[row, :, dimension] = mean[dimension] + positions * std[dimension]

    # One call: an autoregressive decoder pays for its steps, hardly for the images of a step.
    prior = model.p_z().sample((PRIOR_SAMPLES,))
    p_x = model.generate(torch.cat([latents, prior, grid.reshape(-1, *shape)]))
    samples = p_x.sample()
    try:
        means: Tensor | None = p_x.mean
    except NotImplementedError:
        means = None
    shown = samples if means is None else means

    values = originals.float().cpu().numpy()
    low, high = (float(values.min()), float(values.max())) if spec.support == "real" else (0.0, 1.0)

    def render(t: Tensor) -> npt.NDArray[np.uint8]:
        array = t.float().cpu().numpy()
        return pixels(array if len(spec.event_shape) == 3 else array[:, None], low, high)

    k, m = len(originals), PRIOR_SAMPLES
    traversals = render(shown[k + m :])
    return Pictures(
        originals=render(originals),
        samples=render(samples[:k]),
        means=None if means is None else render(means[:k]),
        prior=render(shown[k : k + m]),
        traversals=traversals.reshape(len(traversed), len(positions), *traversals.shape[1:]),
        traversed=tuple(traversed.tolist()),
        positions=np.array(POSITIONS),
        show_means=means is not None,
    )


def _why_no_pictures(spec: DataSpec) -> str:
    if spec.support == "tokens":
        return "The data are sequences of tokens, not images, so there is nothing to look at."
    shape = " × ".join(str(n) for n in spec.event_shape)
    return f"The data are arrays of {shape} values, not images, so there is nothing to look at."


def _latent_map(codes: Tensor, labels: npt.NDArray[np.int64] | None, prior_std: float) -> LatentMap | None:
    points = _numpy(codes)
    count, size = points.shape
    if count < _FEWEST_FOR_A_MAP or not np.isfinite(points).all():
        return None
    if size == 1:
        scatter = np.random.default_rng(0).uniform(-1, 1, (count, 1)) * prior_std
        method = "The latent has one dimension; points are spread at random along the other axis."
        return LatentMap(np.hstack([points, scatter]), labels, ("z0", "no meaning"), prior_std, method)
    if size == 2:
        return LatentMap(points, labels, ("z0", "z1"), prior_std, "The latent has two dimensions, shown as they are.")
    total = points.var(axis=0).sum()
    if total < 1e-12:
        method = f"All {count} codes are the same point: the {size} dimensions hold no variance to project."
        return LatentMap(np.zeros((count, 2)), labels, ("PC 1 (0 %)", "PC 2 (0 %)"), prior_std, method)
    pca = PCA(2, svd_solver="full").fit(points)
    first, second = (f"PC {i + 1} ({100 * share:.0f} %)" for i, share in enumerate(pca.explained_variance_ratio_))
    method = f"The {size} dimensions are projected on the two directions of largest variance (PCA)."
    return LatentMap(np.asarray(pca.transform(points)), labels, (first, second), prior_std, method)


def _numpy(t: Tensor) -> FloatArray:
    return t.double().cpu().numpy()

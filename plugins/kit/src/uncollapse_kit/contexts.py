"""The small worlds in which parts are tried: data, latents and features, and examples of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from uncollapse.config import BuildContext, ComponentConfig, PosteriorConfig
from uncollapse.protocols import DataSpec, SpecialTokens

__all__ = ["LARGE", "SMALL", "Setting", "as_batch", "examples_of", "outside_support", "settings_for"]

EPOCHS = 12
STEPS_PER_EPOCH = 5


@dataclass(frozen=True)
class Setting:
    """One world: what a part is built for, and a name for reports.

    Args:
        name: Said in reports.
        context: What the part is built with.
    """

    name: str
    context: BuildContext

    @property
    def data(self) -> DataSpec:
        """What the data look like."""
        return self.context.data

    def x(self, count: int, seed: int = 0) -> Tensor:
        """Return examples ``[count, *X]`` inside the support, the same for the same arguments."""
        return examples_of(self.data, count, seed)

    def h(self, count: int, seed: int = 1) -> Tensor:
        """Return features ``[count, *H]``."""
        return torch.randn((count, *self.context.feature_shape), generator=torch.Generator().manual_seed(seed))

    def z(self, *leading: int, seed: int = 2) -> Tensor:
        """Return latents ``[*leading, *D]``."""
        return torch.randn((*leading, *self.context.latent_shape), generator=torch.Generator().manual_seed(seed))


def examples_of(data: DataSpec, count: int, seed: int = 0) -> Tensor:
    """Return examples ``[count, *X]`` inside the support of ``data``, the same for the same arguments."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, *data.event_shape)
    if data.support == "tokens":
        tokens = torch.randint(0, data.vocabulary_size or 2, shape, generator=generator)
        return tokens if data.special is None else _texts(tokens, data.special, data.vocabulary_size or 2, generator)
    if data.support == "real":
        return torch.randn(shape, generator=generator)
    if data.support == "bytes":
        return torch.randint(0, 256, shape, generator=generator) / 255
    values = torch.rand(shape, generator=generator)
    return (values > 0.5).float() if data.support == "binary" else values


def _texts(tokens: Tensor, special: SpecialTokens, size: int, generator: torch.Generator) -> Tensor:
    """Return texts of every length, ``w1 … wn </s>`` and padding, made from tokens ``[count, T]``."""
    reserved = (special.padding, special.start, special.end)
    words = torch.tensor([i for i in range(size) if i not in reserved])
    count, longest = tokens.shape
    ends = torch.randint(0, longest, (count, 1), generator=generator)
    positions = torch.arange(longest)
    texts = words[tokens % len(words)].masked_fill(positions == ends, special.end)
    return texts.masked_fill(positions > ends, special.padding)


def as_batch(x: Tensor, data: DataSpec) -> Tensor:
    """Return examples as a batch holds them: texts without columns that are nothing but padding."""
    if data.special is None:
        return x
    return x[:, : int((x != data.special.padding).sum(1).max())]


def outside_support(x: Tensor, data: DataSpec) -> str:
    """Return what is wrong with ``x`` as data of this kind, or the empty string."""
    if not bool(torch.isfinite(x).all()):
        return "some values are not finite"
    if data.support == "tokens":
        limit = data.vocabulary_size or 0
        fine = (x == x.round()) & (x >= 0) & (x < limit)
        if not bool(fine.all()):
            return f"expected integers in 0..{limit - 1}, found {_range(x)}"
        return "" if data.special is None else _no_text(x, data.special)
    if data.support == "real":
        return ""
    if data.support == "binary":
        return "" if bool(((x == 0) | (x == 1)).all()) else f"expected 0 and 1 only, found {_range(x)}"
    if not bool(((x >= 0) & (x <= 1)).all()):
        return f"expected values in [0, 1], found {_range(x)}"
    if data.support == "bytes" and float((x * 255 - (x * 255).round()).abs().max()) > 1e-3:
        return "expected values k/255, found others between"
    return ""


def _no_text(x: Tensor, special: SpecialTokens) -> str:
    """Return what is wrong with ``x [..., T]`` as texts, which may be cut off before they end."""
    behind = (x == special.end).cumsum(-1) - (x == special.end).long() > 0
    if bool((behind != (x == special.padding)).any()):
        return "expected padding behind the end of a text, and nowhere else"
    return "found the start token, which no text contains" if bool((x == special.start).any()) else ""


def _range(x: Tensor) -> str:
    return f"values from {float(x.min()):g} to {float(x.max()):g}"


def _setting(name: str, data: DataSpec, latent: tuple[int, ...] = (4,), features: tuple[int, ...] = (12,)) -> Setting:
    return Setting(name, BuildContext(data, latent, features, steps_per_epoch=STEPS_PER_EPOCH, epochs=EPOCHS))


_BINARY = DataSpec((1, 8, 8), "binary", classes=3)
_TEXTS = _setting("texts up to 7", DataSpec((7,), "tokens", classes=3, vocabulary_size=11, special=SpecialTokens()))

SMALL: tuple[Setting, ...] = (
    _setting("binary image 1x8x8", _BINARY),
    _setting("real vector 6", DataSpec((6,), "real", classes=3)),
    _setting("grey image 1x8x8", DataSpec((1, 8, 8), "unit_interval", classes=3)),
    _setting("colour image 3x8x8, latent 4x2x2", DataSpec((3, 8, 8), "bytes", classes=3), (4, 2, 2), (8, 2, 2)),
    _setting("colour image 3x8x8", DataSpec((3, 8, 8), "bytes", classes=3)),
    _setting("tokens 7", DataSpec((7,), "tokens", classes=3, vocabulary_size=11)),
    _TEXTS,
)
"""Tried first; a part is checked in every one of these that it fits."""

LARGE: tuple[Setting, ...] = (
    _setting("binary image 1x28x28", DataSpec((1, 28, 28), "binary", classes=3)),
    _setting("grey image 1x28x28", DataSpec((1, 28, 28), "unit_interval", classes=3)),
    _setting("colour image 3x32x32", DataSpec((3, 32, 32), "bytes", classes=3)),
    _setting("colour image 3x32x32, latent 4x8x8", DataSpec((3, 32, 32), "bytes", classes=3), (4, 8, 8), (8, 8, 8)),
)
"""Tried only by parts that fit no small setting, one being enough."""


def settings_for(config: ComponentConfig) -> tuple[tuple[Setting, ...], tuple[Setting, ...]]:
    """Return the small and the large settings in which a component of this kind is tried."""
    if isinstance(config, PosteriorConfig):
        latent = tuple(config.latent_shape)
        flat = replace(SMALL[0].context, latent_shape=latent)
        settings = [Setting(f"features 12, latent {_shape(latent)}", flat)]
        if len(latent) > 1:
            spatial = replace(flat, feature_shape=(2 * latent[0], *latent[1:]))
            settings.append(Setting(f"features {_shape(spatial.feature_shape)}, latent {_shape(latent)}", spatial))
        return tuple(settings), ()
    if config.kind in ("encoder", "decoder"):
        return SMALL, LARGE
    if config.kind == "likelihood":
        return tuple(s for s in SMALL if len(s.context.latent_shape) == 1), ()
    if config.kind in ("prior", "moment_transform"):
        return (SMALL[0], SMALL[3]), (LARGE[0],)
    if config.kind == "regularizer":
        return (SMALL[0], SMALL[1], SMALL[3]), (LARGE[0],)
    if config.kind in ("objective", "estimator", "sampler"):
        return (SMALL[0], SMALL[1], _TEXTS), (LARGE[0],)
    if config.kind == "observer":
        return (SMALL[0], SMALL[1]), (LARGE[0],)
    # What is built without looking at the data: one setting, which needs no name.
    return (replace(SMALL[0], name=""),), ()


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "()"

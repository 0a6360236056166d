"""Weight normalization with data-dependent initialization, for linear, convolutional and masked layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

__all__ = ["WeightNorm", "initialize_from_data", "weight_normalized"]

Layer = TypeVar("Layer", bound=nn.Module)

_EPSILON = 1e-8
_MIN_STD = 1e-6


class WeightNorm(nn.Module):
    """The parametrization ``w = g v / ||v||`` of a weight, one gain ``g`` an output channel.

    Salimans and Kingma, Weight Normalization (2016), eq. 2, https://arxiv.org/abs/1602.07868.

    Args:
        channel_dim: Dimension of the weight that counts output channels.
        mask: True at the live entries of the weight, in its shape; the norm is theirs and the others are zero. None
            where all are live.
        log_gain: Store ``log g`` instead of ``g``, as MAE's released masked layers do.
        output_scale: How large the layer's outputs are to be at the start, relative to those of other layers; see
            :func:`initialize_from_data`.
    """

    mask: Tensor | None

    def __init__(
        self, channel_dim: int = 0, mask: Tensor | None = None, log_gain: bool = False, output_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.channel_dim = channel_dim
        self.log_gain = log_gain
        self.output_scale = output_scale
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, gain: Tensor, direction: Tensor) -> Tensor:
        """Return the weight for gains (1 except along ``channel_dim``) and a direction in the weight's shape."""
        direction = self._live(direction)
        scale = gain.exp() if self.log_gain else gain
        return direction * (scale / (self._norm(direction) + _EPSILON))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return gain and direction that give ``weight``."""
        direction = self._live(weight)
        norm = self._norm(direction) + _EPSILON
        return (norm.log() if self.log_gain else norm), direction

    @torch.no_grad()
    def rescale(self, gain: Tensor, factor: Tensor) -> None:
        """Multiply the weight of every output channel by ``factor [channels]``, by changing ``gain`` in place."""
        factor = factor.view_as(gain).to(gain.dtype)
        if self.log_gain:
            gain.add_(factor.log())
        else:
            gain.mul_(factor)

    def _live(self, direction: Tensor) -> Tensor:
        return direction if self.mask is None else direction * self.mask

    def _norm(self, direction: Tensor) -> Tensor:
        dims = [d for d in range(direction.dim()) if d != self.channel_dim]
        norm: Tensor = torch.linalg.vector_norm(direction, dim=dims, keepdim=True)
        return norm


def weight_normalized(
    layer: Layer,
    *,
    mask: Tensor | None = None,
    log_gain: bool = False,
    init_std: float = 0.05,
    output_scale: float = 1.0,
) -> Layer:
    """Reparameterize a layer's weight in place and return the layer; its state then holds gain and direction.

    Salimans and Kingma (2016), eq. 2 and section 3: directions start at ``N(0, 0.05²)`` and biases at zero, which
    :func:`initialize_from_data` corrects once data are there.

    Args:
        layer: ``nn.Linear``, ``nn.Conv2d``, an ungrouped ``nn.ConvTranspose2d``, or a subclass.
        mask: Live entries of the weight ``[out, in, ...]``; see :class:`WeightNorm`.
        log_gain: Store the gain's logarithm.
        init_std: Standard deviation of the directions.
        output_scale: See :class:`WeightNorm`; below 1 for the last layer of a residual branch, say.

    Raises:
        TypeError: The layer has no weight whose output channels are known.
    """
    if not isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        raise TypeError(f"expected a Linear, Conv2d or ConvTranspose2d layer, found {type(layer).__name__}")
    if isinstance(layer, nn.ConvTranspose2d) and layer.groups > 1:
        raise TypeError("a grouped ConvTranspose2d shares weights' entries between channels; expected groups=1")
    nn.init.normal_(layer.weight, std=init_std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    channel_dim = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    parametrize.register_parametrization(layer, "weight", WeightNorm(channel_dim, mask, log_gain, output_scale))
    return cast(Layer, layer)


@torch.no_grad()
def initialize_from_data(network: nn.Module, run: Callable[[], Any], scale: float = 1.0) -> None:
    """Set gains and biases of weight-normalized layers so that their outputs have mean 0 and one standard deviation.

    Salimans and Kingma (2016), eq. 6, with ``+1e-6`` under the fraction as in MAE's released code. Each layer is
    corrected the first time that ``run`` uses it and hands on its corrected output, so one pass initializes all, in
    the order of execution. A channel whose output does not vary keeps its gain. Other layers are left alone.

    Args:
        network: Holds the layers.
        run: Passes data through them, ``lambda: network(x)`` say; its result is not used. Not called when there is
            no weight-normalized layer.
        scale: Standard deviation that outputs shall have, times the layer's own ``output_scale``.
    """
    done: set[nn.Module] = set()

    def correct(layer: nn.Module, _: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if layer in done:
            return None
        done.add(layer)
        return _correct(layer, output, scale)

    layers = [m for m in network.modules() if _norm_of(m) is not None]
    if not layers:
        return
    handles = [m.register_forward_hook(correct) for m in layers]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()


def _norm_of(layer: nn.Module) -> WeightNorm | None:
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    first = cast(nn.ModuleDict, layer.parametrizations)["weight"][0]  # type: ignore[index]
    return first if isinstance(first, WeightNorm) else None


def _correct(layer: nn.Module, output: Tensor, scale: float) -> Tensor:
    channel_dim = 1 if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) else output.dim() - 1
    others = [d for d in range(output.dim()) if d != channel_dim]
    std, mean = torch.std_mean(output, dim=others, correction=0)
    varies = std > _MIN_STD * (1 + mean.abs())
    norm = cast(WeightNorm, _norm_of(layer))
    factor = torch.where(varies, scale * norm.output_scale / (std + _MIN_STD), torch.ones_like(std))
    gain = cast(nn.ModuleDict, layer.parametrizations)["weight"].original0
    norm.rescale(cast(Tensor, gain), factor)
    shape = [-1 if d == channel_dim else 1 for d in range(output.dim())]
    bias = cast("Tensor | None", layer.bias)
    if bias is None:
        return output * factor.view(shape)
    bias.sub_(mean).mul_(factor)
    return (output - mean.view(shape)) * factor.view(shape)

"""What transformers are made of: positions and blocks of self-attention."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Block", "sinusoids"]


def sinusoids(length: int, width: int) -> Tensor:
    """Return positions ``[length, width]`` of an even width: Vaswani et al., Attention Is All You Need (2017), section
    3.5, https://arxiv.org/abs/1706.03762; sines in the first half, cosines in the second.
    """
    rates = torch.exp(torch.arange(width // 2) * (-2 * math.log(10_000) / width))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


class Block(nn.Module):
    """Self-attention and two linear layers with a GELU between, each after a layer norm and around a residual
    connection: the pre-norm block of Xiong et al., On Layer Normalization in the Transformer Architecture (2020),
    figure 1b, https://arxiv.org/abs/2002.04745, as GPT-2 has it.

    Args:
        width: Width of the residual stream.
        heads: Attention heads.
        hidden: Width between the two linear layers.
        dropout: On attention weights and on what is added to the stream.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.norm_linear = nn.LayerNorm(width)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def split(self, h: Tensor) -> Tensor:
        """Return ``[N, T, width]`` as ``[N, heads, T, width / heads]``."""
        return cast(Tensor, h.unflatten(-1, (self.heads, -1))).transpose(1, 2)

    def queries_keys_values(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what attention needs of ``h [N, T, width]``, ``[N, heads, T, width / heads]`` each."""
        q, k, v = self.project(self.norm_attention(h)).chunk(3, -1)
        return self.split(q), self.split(k), self.split(v)

    def forward(self, h: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Return the stream ``[N, T, width]`` behind the block.

        Args:
            h: The stream before it.
            q: Queries ``[N, heads, T, width / heads]``.
            k: Keys of all that may be attended, ``[N, heads, M, width / heads]``.
            v: Values of the same.
            mask: True where a query may attend ``[T, M]``; None where it may attend everything.
        """
        rate = self.dropout.p if self.training else 0.0
        found = functional.scaled_dot_product_attention(q, k, v, mask, dropout_p=rate)
        h = h + self.dropout(self.attended(found.transpose(1, 2).flatten(2)))
        inner = self.narrow(functional.gelu(self.widen(self.norm_linear(h))))
        return cast(Tensor, h + self.dropout(inner))

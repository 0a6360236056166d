"""LSTM encoder of texts."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from uncollapse.config import BuildContext, EncoderConfig
from uncollapse.errors import ShapeError
from uncollapse.protocols import SpecialTokens

__all__ = ["LSTMEncoder", "LSTMEncoderConfig", "initialize_uniform"]


@torch.no_grad()
def initialize_uniform(module: nn.Module, init_range: float | None, embedding_range: float | None) -> None:
    """Draw every parameter from ``U(-init_range, init_range)``, embeddings from ``U(-embedding_range, …)``.

    None leaves torch's own initialization.
    """
    tables = [m.weight for m in module.modules() if isinstance(m, nn.Embedding)]
    others = [p for p in module.parameters() if all(p is not t for t in tables)]
    for limit, parameters in ((init_range, others), (embedding_range, tables)):
        if limit is not None:
            for parameter in parameters:
                parameter.uniform_(-limit, limit)


class LSTMEncoder(nn.Module):
    """The last hidden state of an LSTM that reads a text: Bowman et al., Generating Sentences from a Continuous Space
    (2016), section 3, https://arxiv.org/abs/1511.06349; as in the released code of He et al., Lagging Inference
    Networks (2019), https://arxiv.org/abs/1901.05534, which reads the start token too, and which DU-VAE (Shen et al.,
    2021) took over. Its posterior's head has no bias (``gaussian`` with ``bias: false``).

    The state is taken at each text's own last token, so that padding changes nothing.

    Args:
        vocabulary_size: Ids of the data, ``V``.
        special: Which of them are special; None where every token is data: then there is neither start nor padding.
        embedding: Width of the embedding.
        hidden: Width ``H`` of the state.
        layers: LSTM layers; the features are the top one's.
        init_range: Every weight and bias starts in ``U(-init_range, init_range)``, 0.01 in the lagging encoder's code;
            None for torch's own, as in DU-VAE's code.
        embedding_init_range: The same for the embedding, 0.1 in the lagging encoder's code.
    """

    def __init__(
        self,
        vocabulary_size: int,
        special: SpecialTokens | None = None,
        embedding: int = 512,
        hidden: int = 1024,
        layers: int = 1,
        init_range: float | None = 0.01,
        embedding_init_range: float | None = 0.1,
    ) -> None:
        super().__init__()
        self.special = special
        self.embedding = nn.Embedding(vocabulary_size, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True)
        self.feature_shape: tuple[int, ...] = (hidden,)
        initialize_uniform(self, init_range, embedding_init_range)

    def forward(self, x: Tensor) -> Tensor:
        """Return features ``[B, H]`` of texts ``x [B, T]``."""
        if self.special is None:
            states: Tensor = self.lstm(self.embedding(x))[0]
            return states[:, -1]
        start = x.new_full((len(x), 1), self.special.start)
        states = self.lstm(self.embedding(torch.cat([start, x], 1)))[0]
        # Earlier states do not depend on later tokens: picking one needs no lengths on the CPU, as packing would.
        last = (x != self.special.padding).sum(1)
        return states[torch.arange(len(x), device=x.device), last]


class LSTMEncoderConfig(EncoderConfig):
    """The last state of an LSTM: Bowman et al. (2016), section 3, https://arxiv.org/abs/1511.06349, with the settings
    of He et al., Lagging Inference Networks (2019), https://arxiv.org/abs/1901.05534.
    """

    type: Literal["lstm"] = "lstm"
    embedding: PositiveInt = Field(512, description="width of the embedding")
    hidden: PositiveInt = Field(1024, description="width of the state, and of the features")
    layers: PositiveInt = Field(1, description="LSTM layers")
    init_range: PositiveFloat | None = Field(
        0.01, description="weights and biases start uniform in plus or minus this; null for torch's own (DU-VAE's code)"
    )
    embedding_init_range: PositiveFloat | None = Field(0.1, description="the same for the embedding")

    def build(self, context: BuildContext) -> LSTMEncoder:
        """Return the encoder.

        Raises:
            ShapeError: The data are no texts.
        """
        data = context.data
        if data.support != "tokens" or len(data.event_shape) != 1 or not data.vocabulary_size:
            raise ShapeError(
                "model.encoder: 'lstm' reads texts, data of shape (T,) whose support is tokens with a vocabulary_size; "
                f"found shape {data.event_shape}, support {data.support!r}; use data of texts, or another encoder"
            )
        return LSTMEncoder(
            data.vocabulary_size,
            data.special,
            self.embedding,
            self.hidden,
            self.layers,
            self.init_range,
            self.embedding_init_range,
        )

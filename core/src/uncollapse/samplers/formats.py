"""Samples as numbers, the format that every kind of data has."""

from __future__ import annotations

import io

import numpy as np
from torch import Tensor

from ..plugins import SampleFormat
from ..protocols import DataSource

__all__ = ["NUMBERS"]


def _encode(x: Tensor, data: DataSource) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=(x if data.spec.support == "tokens" else x.float()).numpy())
    return buffer.getvalue()


NUMBERS = SampleFormat(".npz", "numbers", lambda data: True, _encode, rank=9)
"""An archive of numpy with the one array ``x``, ``[N, *X]``."""

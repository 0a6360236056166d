"""Data sources: batches, and what they look like."""

from .arrays import ArraysConfig
from .checks import check_values
from .digits import DigitsConfig
from .division import HeldOut, hold_out
from .files import reading
from .in_memory import Examples, ImageDataConfig, InMemoryDataConfig, Values
from .noise import stream_seed
from .splits import InMemorySource, TensorSplit

__all__ = [
    "ArraysConfig",
    "DigitsConfig",
    "Examples",
    "HeldOut",
    "ImageDataConfig",
    "InMemoryDataConfig",
    "InMemorySource",
    "TensorSplit",
    "Values",
    "check_values",
    "hold_out",
    "reading",
    "stream_seed",
]

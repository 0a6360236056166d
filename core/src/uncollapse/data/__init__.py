"""Data sources: batches, and what they look like."""

from ..config.component import ComponentConfig
from .arrays import ArraysConfig
from .cifar10 import CIFAR10Config
from .digits import DigitsConfig
from .image_folder import ImageFolderConfig
from .in_memory import ImageDataConfig, InMemoryDataConfig
from .mnist import FashionMNISTConfig, MNISTConfig
from .omniglot import OmniglotConfig
from .splits import InMemorySource, TensorSplit
from .text import HuggingFaceConfig, TextDataConfig, TextLinesConfig, TextSource, TextSplit, Vocabulary

__all__ = [
    "COMPONENTS",
    "ArraysConfig",
    "CIFAR10Config",
    "DigitsConfig",
    "FashionMNISTConfig",
    "HuggingFaceConfig",
    "ImageDataConfig",
    "ImageFolderConfig",
    "InMemoryDataConfig",
    "InMemorySource",
    "MNISTConfig",
    "OmniglotConfig",
    "TensorSplit",
    "TextDataConfig",
    "TextLinesConfig",
    "TextSource",
    "TextSplit",
    "Vocabulary",
]

COMPONENTS: tuple[type[ComponentConfig], ...] = (
    DigitsConfig,
    MNISTConfig,
    FashionMNISTConfig,
    CIFAR10Config,
    OmniglotConfig,
    ImageFolderConfig,
    ArraysConfig,
    TextLinesConfig,
    HuggingFaceConfig,
)
"""Configs that the core registers from this folder."""

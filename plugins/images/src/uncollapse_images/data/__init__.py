"""Data sources: batches, and what they look like."""

from .cifar10 import CIFAR10Config
from .image_folder import ImageFolderConfig
from .mnist import FashionMNISTConfig, MNISTConfig
from .omniglot import OmniglotConfig

__all__ = ["CIFAR10Config", "FashionMNISTConfig", "ImageFolderConfig", "MNISTConfig", "OmniglotConfig"]

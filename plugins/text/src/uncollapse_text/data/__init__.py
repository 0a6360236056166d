"""Text: files of lines and Hugging Face data sets, their vocabulary, and batches of tokens."""

from .config import SpecialTokenNames, TextDataConfig
from .corpus import Corpus
from .hugging_face import HuggingFaceConfig
from .lines import TextLinesConfig
from .source import TextSource
from .splits import TextSplit
from .vocabulary import Vocabulary

__all__ = [
    "Corpus",
    "HuggingFaceConfig",
    "SpecialTokenNames",
    "TextDataConfig",
    "TextLinesConfig",
    "TextSource",
    "TextSplit",
    "Vocabulary",
]

"""What the distribution brings; each part is imported when a pipeline names it."""

from __future__ import annotations

from uncollapse.plugins import Lazy, ReportSection, SampleFormat, hookimpl

__all__ = ["uncollapse_components", "uncollapse_sample_formats", "uncollapse_sections"]

uncollapse_api_version = 1


@hookimpl
def uncollapse_components() -> list[Lazy]:
    """Return the parts."""
    return [
        Lazy("data", "text_lines", "uncollapse_text.data:TextLinesConfig"),
        Lazy("data", "huggingface", "uncollapse_text.data:HuggingFaceConfig"),
        Lazy("encoder", "lstm", "uncollapse_text.encoders.lstm:LSTMEncoderConfig"),
        Lazy("decoder", "lstm", "uncollapse_text.decoders.lstm:LSTMDecoderConfig"),
        Lazy("decoder", "transformer", "uncollapse_text.decoders.transformer:TransformerDecoderConfig"),
        Lazy("estimator", "perplexity", "uncollapse_text.estimators.perplexity:PerplexityConfig"),
    ]


@hookimpl
def uncollapse_sample_formats() -> list[SampleFormat]:
    """Return the format for tokens that stand for text."""
    from .lines import LINES

    return [LINES]


@hookimpl
def uncollapse_sections() -> tuple[ReportSection, ...]:
    """Return the sections on what a model of texts says."""
    from .sections import SECTIONS

    return SECTIONS

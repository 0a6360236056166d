"""Encoders: data to features."""

from .lstm import LSTMEncoder, LSTMEncoderConfig

__all__ = ["LSTMEncoder", "LSTMEncoderConfig"]

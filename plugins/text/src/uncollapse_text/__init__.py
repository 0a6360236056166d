"""Text: data, tokens, encoders, decoders, perplexity, and how texts are read off a model."""

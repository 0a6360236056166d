"""How much a diagnosis looks at."""

from __future__ import annotations

from dataclasses import dataclass

from uncollapse.errors import ConfigError

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """How much is measured; every field bounds time or memory, none decides.

    Args:
        examples: Examples whose posteriors are read, at most.
        batch_size: Examples of one pass of the encoder.
        decoder_examples: Examples whose likelihood is computed under other codes.
        replacements: Codes of other examples that each of them is tried with.
        refined_examples: Examples whose posterior is refined by gradient steps; 0 to leave that out.
        refinement_steps: Steps of that refinement.
        passes_at_once: Latents that go through the decoder at once.
        numbers: Numbers in all codes together that are kept, at most; bounds memory where latents are large.
        pairs: Numbers that comparing all pairs of posteriors may touch; beyond, fewer examples are compared.
        seed: Of all draws.

    Raises:
        ConfigError: A number is too small.
    """

    examples: int = 10_000
    batch_size: int = 256
    decoder_examples: int = 256
    replacements: int = 15
    refined_examples: int = 32
    refinement_steps: int = 20
    passes_at_once: int = 64
    numbers: int = 2**23
    pairs: int = 2**32
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"refined_examples": 0, "seed": 0, "decoder_examples": 2}
        for name, value in vars(self).items():
            if value < least.get(name, 1):
                raise ConfigError(f"{name}: expected at least {least.get(name, 1)}, found {value}")

"""Time of a training epoch of the Trainer on texts against a bare PyTorch loop on the same batches.

An LSTM VAE in the form of He et al. (2019) and DU-VAE: embeddings 128, LSTMs 256, latent 32, 10,000 words, dropout 0.5,
SGD at rate 1 with gradients clipped to norm 5. Batches of 32 texts of one length, 10 to 15 words; both loops take the
same batches in random order. They start from the same weights and run eagerly. The bare loop's batches are ready in a
list, and it adds up its loss in a tensor; the Trainer puts its batches together and logs every term, every 50 steps.
Validation and checkpoints, which the bare loop has not, are left out.
The ratio is the median over pairs of epochs of (Trainer / bare), the two run one after the other in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from trainer import seconds
from uncollapse.config import DataConfig
from uncollapse.config.pipeline import ModelConfig, PipelineConfig, TrainingConfig
from uncollapse.data import InMemorySource
from uncollapse.optimizers import SGDConfig
from uncollapse.pipeline import Pipeline
from uncollapse.posteriors.gaussian import GaussianPosteriorConfig
from uncollapse.protocols import DataSpec, SpecialTokens
from uncollapse.training import Run, Trainer
from uncollapse_text.data import TextSplit
from uncollapse_text.decoders.lstm import LSTMDecoderConfig
from uncollapse_text.encoders.lstm import LSTMEncoderConfig

LIMIT = 1.05
EMBEDDING, HIDDEN, LATENT, WORDS = 128, 256, 32, 10_000
BATCH, LENGTHS, BATCHES_OF_A_LENGTH = 32, range(10, 16), 4
STEPS = len(LENGTHS) * BATCHES_OF_A_LENGTH
SPECIAL = SpecialTokens()


class RandomWords(DataConfig):
    """Texts of random words."""

    type: Literal["random_words"] = "random_words"
    batch_size: int = BATCH

    def build(self, seed: int) -> InMemorySource:
        """Return the source."""
        generator = torch.Generator().manual_seed(seed)
        texts = [
            torch.randint(4, WORDS, (length,), generator=generator).tolist()
            for length in LENGTHS
            for _ in range(BATCH * BATCHES_OF_A_LENGTH)
        ]
        spec = DataSpec((max(LENGTHS) + 1,), "tokens", vocabulary_size=WORDS, special=SPECIAL)
        train = TextSplit(texts, spec=spec, seed=seed)
        return InMemorySource(train, train, train)


class BareTextVAE(nn.Module):
    """The same layers, called as one would by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_words = nn.Embedding(WORDS, EMBEDDING)
        self.encoder = nn.LSTM(EMBEDDING, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 2 * LATENT, bias=False)
        self.decoder_words = nn.Embedding(WORDS, EMBEDDING)
        self.to_state = nn.Linear(LATENT, HIDDEN, bias=False)
        self.decoder = nn.LSTM(EMBEDDING + LATENT, HIDDEN, batch_first=True)
        self.logits = nn.Linear(HIDDEN, WORDS, bias=False)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the negative evidence lower bound of ``x [B, T]``, nats per text."""
        text = torch.cat([x.new_full((len(x), 1), SPECIAL.start), x], 1)
        _, (last, _) = self.encoder(self.encoder_words(text))
        mean, logvar = self.head(last[0]).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        c = self.to_state(z)[None]
        words = self.dropout(self.decoder_words(text[:, :-1]))
        h, _ = self.decoder(torch.cat([words, z[:, None].expand(-1, x.shape[1], -1)], -1), (c.tanh(), c))
        logits = self.logits(self.dropout(h))
        distortion = cross_entropy(logits.flatten(0, 1), x.flatten(), reduction="sum")
        rate = -0.5 * torch.sum(1 + logvar - mean.square() - logvar.exp())
        return (distortion + rate) / len(x)

    @torch.no_grad()
    def take(self, model: nn.Module) -> None:
        """Take the weights of the Trainer's model."""
        theirs = dict(model.named_parameters())
        words, network = "encoder.embedding.weight", "decoder.network"
        self.encoder_words.weight.copy_(theirs[words])
        self.head.weight.copy_(theirs["posterior.head.weight"])
        self.decoder_words.weight.copy_(theirs[f"{network}.embedding.weight"])
        self.to_state.weight.copy_(theirs[f"{network}.to_state.weight"])
        self.logits.weight.copy_(theirs[f"{network}.head.weight"].T)
        for own, name in ((self.encoder, "encoder.lstm"), (self.decoder, f"{network}.bottom")):
            for part, parameter in own.named_parameters():
                parameter.copy_(theirs[f"{name}.{part}"])


class BareLoop:
    """A loop as one would write it by hand."""

    def __init__(self, model: BareTextVAE, batches: list[Tensor]) -> None:
        self.model, self.batches = model, batches
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1.0, fused=True)

    def epoch(self) -> float:
        """Train for one epoch and return its mean loss."""
        total = torch.zeros((), device=self.batches[0].device)
        for i in torch.randperm(len(self.batches)).tolist():
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.model(self.batches[i])
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.optimizer.step()
            total += loss.detach()
        return total.item() / len(self.batches)


def prepared(folder: Path, repeats: int) -> tuple[Trainer, BareLoop]:
    """Return the two loops with the same weights and data."""
    config = PipelineConfig(
        name="text",
        data=RandomWords(),
        model=ModelConfig(
            encoder=LSTMEncoderConfig(embedding=EMBEDDING, hidden=HIDDEN),
            posterior=GaussianPosteriorConfig(latent_dim=LATENT, bias=False, init_range=0.01),
            decoder=LSTMDecoderConfig(embedding=EMBEDDING, hidden=HIDDEN),
        ),
        training=TrainingConfig(epochs=repeats + 2, optimizer=SGDConfig(lr=1.0), gradient_clip=5.0),
    )
    built = Pipeline(config).build()
    trainer = Trainer(config, built, Run(folder / "text"), quiet=True)
    trainer.prepare()
    bare = BareTextVAE().to(trainer.device)
    bare.take(built.model)
    batches = [batch.x for batch in built.data.train.batches(BATCH, device=trainer.device)]
    return trainer, BareLoop(bare, batches)


def compare(folder: Path, repeats: int) -> tuple[float, float, float]:
    """Return the median ratio, and the median milliseconds of a step of the Trainer and of the bare loop."""
    trainer, bare = prepared(folder, repeats)

    def trainer_epoch() -> None:
        trainer.train_epoch()
        trainer.state.epoch, trainer.state.position = trainer.state.epoch + 1, 0

    trainer_epoch()
    bare.epoch()
    pairs = []
    for i in range(repeats):
        # In turns, so that neither always runs on what the other left in the caches.
        turns = [("ours", trainer_epoch), ("bare", bare.epoch)]
        times = {who: seconds(epoch, trainer.device) for who, epoch in (turns if i % 2 else turns[::-1])}
        pairs.append((times["ours"], times["bare"]))
    ours, theirs = trainer.run.metrics()[-1]["loss"], bare.epoch()
    trainer.close()
    if abs(ours - theirs) > 0.02 * theirs:
        raise RuntimeError(f"the loops do not train the same model: losses {ours:.1f} and {theirs:.1f}")
    ours_ms, theirs_ms = (1e3 * median(times) / STEPS for times in zip(*pairs, strict=True))
    return median(a / b for a, b in pairs), ours_ms, theirs_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one flat JSON object, name to ratio")
    parser.add_argument("--repeats", type=int, default=12, help="pairs of epochs")
    parser.add_argument("--threads", type=int, help="torch's threads; its own choice by default")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        ratio, ours, theirs = compare(Path(folder), arguments.repeats)
    if arguments.json:
        print(json.dumps({"lstm_vae": round(ratio, 4)}))
    else:
        table = Table(title=f"One training step on texts, threads: {torch.get_num_threads()}")
        for heading in ("", "Trainer", "bare loop", "ratio", "at most"):
            table.add_column(heading, justify="left" if not heading else "right")
        table.add_row("LSTM VAE", f"{ours:.1f} ms", f"{theirs:.1f} ms", f"{ratio:.4f}", f"{LIMIT}")
        Console().print(table)
    sys.exit(ratio > LIMIT)


if __name__ == "__main__":
    main()

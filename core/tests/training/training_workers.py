"""What tests run in other processes. A fork server loads this once, so that a worker starts within milliseconds."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # the first optimizer of a process would load it
from torch import nn
from training_toys import ToySource, toy_config, toy_trainer
from uncollapse.config.pipeline import PipelineConfig
from uncollapse.distributions import DiagonalNormal
from uncollapse.plugins import registry
from uncollapse.protocols import Penalty, Progress
from uncollapse.randomness import separate_stream

with suppress(ImportError):
    import torch.utils.tensorboard

registry()


def long_config() -> PipelineConfig:
    """Return what is trained: everything that has a state, with a checkpoint at every step."""
    return toy_config(
        data={"size": 60},
        epochs=20,
        polyak=0.9,
        gradient_clip=1.0,
        learning_rate={"type": "plateau", "patience": 2, "max_decays": None},
        checkpoint_every_steps=1,
        validate_every=2,
        log_every=5,
        drop_last=False,
    )


def train_for_kill(path: str, given: Any, resume: bool) -> None:
    """Train in a process of its own, telling through ``given`` how many batches were begun."""
    torch.set_num_threads(1)

    def tell(count: int) -> None:
        given.value = count

    toy_trainer(path, long_config(), ToySource(60, 20, on_batch=tell)).fit(resume=resume)


class StillNormal(DiagonalNormal):
    """A Gaussian whose samples are a function of its moments, for comparing processes that draw different noise."""

    def rsample(self, sample_shape: Any = ()) -> torch.Tensor:
        return (self.mean + 0.5 * self.stddev).expand(*sample_shape, *self.mean.shape)


class StillPosterior(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.latent_shape = inner, inner.latent_shape
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, h: torch.Tensor, progress: Progress | None = None) -> StillNormal:
        q = self.inner(h, progress)
        return StillNormal(q.mean, q.logvar)


class PairwisePenalty(nn.Module):
    """Couples every pair of the global batch."""

    def forward(self, inference: Any) -> Penalty:
        gathered = inference.gathered()
        distances = torch.cdist(gathered.base.mean, gathered.base.mean).square() + gathered.z.var()
        pairs = distances[~torch.eye(len(distances), dtype=torch.bool)]
        return Penalty(3 * torch.exp(-pairs).mean() + pairs.std(), {"mean": pairs.mean()})


class StillAdversary(nn.Module):
    """A discriminator between codes and the origin."""

    adversary_lr = 0.01

    def __init__(self) -> None:
        super().__init__()
        self.adversary = nn.Linear(2, 1)

    def forward(self, inference: Any) -> Penalty:
        return Penalty(-nn.functional.logsigmoid(self.adversary(inference.z)).mean())

    def adversary_loss(self, inference: Any) -> torch.Tensor:
        real = nn.functional.logsigmoid(self.adversary(torch.zeros_like(inference.z)))
        return -(real + nn.functional.logsigmoid(-self.adversary(inference.z))).mean()


def train_still(folder: Path, *, noisy: bool = False, **options: Any) -> None:
    """Train, without noise unless ``noisy``, on the processes of the environment; leave gradients of a batch and final weights."""

    def change(built: Any) -> None:
        if not noisy:
            built.model.posterior = StillPosterior(built.model.posterior)
        torch.manual_seed(0)
        built.regularizers.update({"pairs": PairwisePenalty(), "adversary": StillAdversary()})

    config = toy_config(
        data={"size": 70}, epochs=3, polyak=0.9, gradient_clip=2.0, drop_last=False, log_every=4, **options
    )
    trainer = toy_trainer(folder / "run", config, ToySource(70, 20), change)
    trainer.prepare(resume=(folder / "run").exists())
    learner, accelerator = trainer.learner, trainer.accelerator
    batch = next(
        trainer.built.data.train.batches(8, rank=accelerator.process_index, world_size=accelerator.num_processes)
    )
    # The run must not notice that noise was drawn here.
    with separate_stream(0, trainer.device):
        outcome = learner._criterion(batch, Progress())
    accelerator.backward(outcome.total)
    gradients = {name: p.grad.clone() for name, p in trainer.built.model.named_parameters() if p.grad is not None}
    learner.optimizer.zero_grad(set_to_none=True)
    while not trainer._is_over():
        trainer.train_epoch()
        trainer.finish_epoch()
    trainer.close()
    found = {
        "processes": accelerator.num_processes,
        "loss": accelerator.reduce(outcome.total.detach(), "mean"),
        "gradients": gradients,
        "adversary": {n: p.detach() for n, p in trainer.built.regularizers["adversary"].named_parameters()},
        "weights": {n: p.detach() for n, p in trainer.built.model.named_parameters()},
        "steps": trainer.state.step,
    }
    torch.save(found, folder / f"found-{accelerator.process_index}.pt")


def train_in_pair(folder: Path, rank: int, options: dict[str, Any]) -> None:
    """Be one of two processes, as ``torchrun`` would start them."""
    torch.set_num_threads(1)
    os.environ.update(
        {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": (folder / "port").read_text(),
        }
    )
    train_still(folder, **options)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()

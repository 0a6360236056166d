"""Two processes compute what one does: values and gradients, through real collectives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch.testing import assert_close

# One process's work; also run here, on the whole batch, as the reference.
WORK = '''
import torch
from uncollapse.config import BuildContext
from uncollapse.objectives import ELBO, FreeBits
from uncollapse.protocols import Batch, DataSpec, Progress
from uncollapse_kit import reference_model

CONTEXT = BuildContext(DataSpec((4,), "real"), latent_shape=(3,))
VARIANTS = ("batch_total", "batch_per_dimension", "example_total", "example_per_dimension")


def work(share):
    """Return, by name, a loss of the share and its gradients with respect to the model's parameters."""
    torch.manual_seed(0)
    model = reference_model(CONTEXT, echo=True)
    parameters = list(model.encoder.parameters()) + list(model.posterior.parameters())
    x = torch.randn(8, 4)[share]
    found = {}
    inference = model(x, samples=2)
    gathered = inference.gathered()
    spread = gathered.base.mean.var(0).sum() + gathered.z.std(1).sum() * gathered.base.logvar.exp().amax()
    losses = {"gathered": spread}
    for variant in VARIANTS:
        # Floors that bind for some dimensions or examples, and above or below the rate of one share but not the other.
        nats = 0.9 if "dimension" in variant else 1.6
        objective = ELBO(free_bits=FreeBits(nats, variant))
        losses[variant] = objective(model, Batch(x), Progress()).total
    for name, loss in losses.items():
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        found[name] = (loss.detach(), [torch.zeros(()) if g is None else g for g in gradients])
    return found
'''
PROCESS = (
    WORK
    + """
import sys
rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
found = work(slice(4 * rank, 4 * rank + 4))
torch.save(found, out)
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""
)


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    outs = [tmp_path / f"{rank}.pt" for rank in (0, 1)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), str(tmp_path / "store"), str(outs[rank])],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    namespace: dict = {}
    exec(WORK, namespace)
    alone = namespace["work"](slice(None))
    first, second = (torch.load(out, weights_only=True) for out in outs)
    assert set(first) == set(alone)
    for name, (loss, gradients) in alone.items():
        # Data parallelism averages gradients over processes.
        assert_close((first[name][0] + second[name][0]) / 2, loss, msg=lambda m, name=name: f"{name}: {m}")
        for a, b, expected in zip(first[name][1], second[name][1], gradients, strict=True):
            assert_close((a + b) / 2, expected, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
    # The coupled quantity is the same on both.
    assert_close(first["gathered"][0], second["gathered"][0])

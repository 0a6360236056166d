"""Two processes compute what one would."""

from __future__ import annotations

import socket

import pytest
import torch
from training_toys import AlternatingConfig
from training_workers import train_in_pair, train_still
from uncollapse.training import Run


def train_two(forkserver, folder, options):
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (folder / "port").write_text(str(free.getsockname()[1]))
    pair = [forkserver.Process(target=train_in_pair, args=(folder, rank, options)) for rank in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(60)
    assert [process.exitcode for process in pair] == [0, 0]
    return [torch.load(folder / f"found-{rank}.pt", weights_only=True) for rank in range(2)]


def assert_close(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    "options",
    [{"objective": "elbo"}, {"objective": "reconstruction"}, {"objective": "elbo", "strategy": AlternatingConfig()}],
    ids=["elbo", "reconstruction", "strategy"],
)
def test_two_processes_give_the_loss_gradients_and_run_of_one(forkserver, tmp_path, options):
    alone, together = tmp_path / "one", tmp_path / "two"
    alone.mkdir()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train_still(alone, **options)
    torch.set_num_threads(threads)
    one = torch.load(alone / "found-0.pt", weights_only=True)
    first, second = train_two(forkserver, together, options)
    assert (one["processes"], first["processes"]) == (1, 2)
    assert one["steps"] == first["steps"] == 27
    assert set(one["weights"]) - set(one["gradients"]) == {"posterior.unused"}
    for found in (first, second):
        torch.testing.assert_close(found["loss"], one["loss"], rtol=1e-5, atol=0)
        gradients = {name: g for name, g in found["gradients"].items() if name in one["gradients"]}
        assert_close(gradients, one["gradients"])
        # Adam divides by the gradient's size, which magnifies rounding over the 27 steps.
        for part in ("weights", "adversary"):
            for name, value in one[part].items():
                torch.testing.assert_close(found[part][name], value, rtol=1e-3, atol=1e-4)
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), "the processes hold the same weights"
    rows = [[r for r in Run(folder / "run").metrics() if r["split"] == "train"] for folder in (alone, together)]
    assert len(rows[0]) == len(rows[1]) > 0
    for left, right in zip(*rows, strict=True):
        for name in ("step", "loss", "elbo", "rate", "distortion", "pairs", "pairs/mean", "adversary/adversary_loss"):
            assert left[name] == pytest.approx(right[name], rel=1e-4)


def test_two_processes_resume_bit_for_bit(forkserver, tmp_path):
    config = {"objective": "elbo", "noisy": True}
    whole = train_two(forkserver, tmp_path / "whole", config)
    # The same run ended by patience after two epochs, and gone on with.
    patience = {"patience": 1, "min_delta": 1000.0}
    begun = train_two(forkserver, tmp_path / "parts", {**config, "early_stopping": patience})
    parts = train_two(forkserver, tmp_path / "parts", config)
    assert [found[0]["steps"] for found in (whole, begun, parts)] == [27, 18, 27]
    for name, value in whole[0]["weights"].items():
        assert torch.equal(parts[0]["weights"][name], value)

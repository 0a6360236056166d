"""Checks of training-step strategies."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from uncollapse.capabilities import supports
from uncollapse.model import LatentVariableModel
from uncollapse.protocols import Batch, JudgesEpochs, Outcome, Progress

from .case import Case
from .report import NotApplicable, expect
from .tensors import expect_finite, expect_untouched, snapshot, through_a_file

__all__ = ["STRATEGY_CHECKS"]


class _Bench:
    """A :class:`~uncollapse.protocols.Learning` with the plain evidence lower bound and Adam."""

    def __init__(self, case: Case) -> None:
        self.case, self.drawn = case, 0
        self.model: LatentVariableModel = case.model().train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.parameters())

    def loss(self, batch: Batch, progress: Progress) -> Outcome:
        self.optimizer.zero_grad()
        inference = self.model(batch.x, progress=progress)
        rate, distortion = inference.rate(), inference.distortion
        total = (rate + distortion).mean()
        terms = {"loss": total, "elbo": -(rate + distortion), "rate": rate, "distortion": distortion}
        return Outcome(total, {name: term.detach() for name, term in terms.items()}, {}, inference)

    def descend(self, total: Tensor, only: Collection[nn.Parameter] | None = None) -> None:
        total.backward()
        if only is not None:
            chosen = {id(p) for p in only}
            for parameter in self.model.parameters():
                if id(parameter) not in chosen:
                    parameter.grad = None
        self.optimizer.step()

    def random_batch(self) -> Batch:
        self.drawn += 1
        return self.case.batch(seed=1_000 + self.drawn)

    def mean_over_processes(self, value: Tensor) -> Tensor:
        return value

    def run(self, strategy: Any, calls: int, first: int = 0) -> list[Outcome]:
        return [strategy(self, self.case.batch(seed=first + i), Progress(first + i, 5)) for i in range(calls)]

    def judge(self, strategy: Any) -> None:
        if supports(strategy, JudgesEpochs):
            self.model.eval()
            with torch.no_grad():
                strategy.epoch_ended(self.model, self._batches)
            self.model.train()

    def _batches(self) -> Iterable[Batch]:
        return [self.case.batch(seed=2_000 + i) for i in range(3)]


def strategy_outcome(case: Case) -> None:
    """A call reports a finite ``loss`` and terms without gradients, and two calls move every parameter."""
    bench = _Bench(case)
    before = {name: p.detach().clone() for name, p in bench.model.named_parameters()}
    for outcome in bench.run(case.build(), 2):
        expect("loss" in outcome.terms, f"expected a term 'loss', found {', '.join(outcome.terms)}")
        for name, value in outcome.terms.items():
            expect(not value.requires_grad, f"{name!r}: expected a term without gradients")
            expect_finite(repr(name), value)
    still = [name for name, p in bench.model.named_parameters() if p.requires_grad and torch.equal(p, before[name])]
    expect(not still, f"expected every parameter to move in two calls; these did not: {', '.join(still)}")


def strategy_learns(case: Case) -> None:
    """The loss falls on a batch that comes again and again."""
    bench, strategy = _Bench(case), case.build()

    def mean_loss() -> float:
        torch.manual_seed(7)
        with torch.no_grad():
            return sum(float(bench.loss(case.batch(), Progress()).total) for _ in range(20)) / 20

    before = mean_loss()
    for step in range(30):
        strategy(bench, case.batch(), Progress(step, 5))
    after = mean_loss()
    expect(after < before, f"expected the loss to fall in 30 calls, found {before:.4g} before and {after:.4g} after")


def strategy_judges_only(case: Case) -> None:
    """``epoch_ended``, where it is defined, leaves the model as it is."""
    bench, strategy = _Bench(case), case.build()
    if not supports(strategy, JudgesEpochs):
        raise NotApplicable("it defines no epoch_ended")
    bench.run(strategy, 2)
    before = snapshot(bench.model)
    bench.judge(strategy)
    expect_untouched(bench.model, before)


def strategy_state_round_trip(case: Case) -> None:
    """A fresh strategy with the saved state does what the old one would have done, bit for bit."""
    bench, strategy = _Bench(case), case.build()
    for epoch in range(2):
        bench.run(strategy, 3, first=3 * epoch)
        bench.judge(strategy)
    resumed, other = copy.deepcopy(bench), case.build()
    other.load_state_dict(through_a_file(dict(strategy.state_dict())))
    for mine, one in ((bench, strategy), (resumed, other)):
        torch.manual_seed(5)
        mine.run(one, 3, first=6)
        mine.judge(one)
    found, expected = resumed.model.state_dict(), bench.model.state_dict()
    differ = [name for name, value in expected.items() if not torch.equal(value, found[name])]
    expect(not differ, f"after save, load and three calls these differ: {', '.join(differ)}")
    expect(
        str(other.state_dict()) == str(strategy.state_dict()),
        "after save, load and three calls the two strategies' states differ",
    )


STRATEGY_CHECKS = (strategy_outcome, strategy_learns, strategy_judges_only, strategy_state_round_trip)

"""Aggressive training: when the inner loop ends, who takes which step, and when it is over."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from uncollapse import Estimate, Pipeline
from uncollapse.config import BuildContext
from uncollapse.protocols import Batch, DataSpec, Outcome, Progress, SpecialTokens
from uncollapse_baselines import Aggressive, AggressiveConfig

STEPS, ACTIVE = "baselines.aggressive/inner_steps", "baselines.aggressive/active"


class Script:
    """A learning whose losses are written down, and that writes down what is done to it."""

    def __init__(self, model, losses) -> None:
        self.model, self._losses, self.done = model, iter(losses), []
        self.other = torch.nn.Parameter(torch.zeros(()))
        self.drawn = 0

    @property
    def parameters(self):
        return [*self.model.parameters(), self.other]

    def loss(self, batch, progress):
        value = torch.tensor(next(self._losses))
        self.done.append(("loss", int(batch.x.flatten()[0])))
        return Outcome(value, {"loss": value}, {"rate_weight": 0.5}, SimpleNamespace())

    def descend(self, total, only=None):
        names = {id(p): name.partition(".")[0] for name, p in self.model.named_parameters()}
        chosen = self.parameters if only is None else only
        self.done.append(("step", frozenset(names.get(id(p), "other") for p in chosen)))

    def random_batch(self):
        self.drawn += 1
        return Batch(torch.full((4, 1), 100 + self.drawn))

    def mean_over_processes(self, value):
        return value


NETWORK = frozenset({"encoder", "posterior"})
REST = frozenset({"decoder", "other"})
BATCH = Batch(torch.full((4, 1), 7))


def run(tiny_model, losses, **options):
    script = Script(tiny_model(), losses)
    strategy = Aggressive(**options)
    outcome = strategy(script, BATCH, Progress())
    return script, strategy, outcome


def test_the_inner_loop_ends_when_the_mean_loss_gets_worse(tiny_model):
    # Means of three: 5, 4, 4, then 4.1; an equal mean is not worse.
    losses = [6, 5, 4, 4, 4, 4, 3, 4, 5, 4, 4, 4.3]
    script, _, outcome = run(tiny_model, [*losses, 9.0], check_every=3)
    assert outcome.terms[STEPS] == 12
    assert outcome.terms["loss"] == 9
    assert outcome.weights == {"rate_weight": 0.5, ACTIVE: 1.0}
    # The first step is on the batch, the others are on random ones, and the decoder's is on the batch again.
    seen = [what for kind, what in script.done if kind == "loss"]
    assert seen == [7, *range(101, 112), 7]
    assert [what for kind, what in script.done if kind == "step"] == [NETWORK] * 12 + [REST]


def test_the_inner_loop_has_a_longest(tiny_model):
    script, _, outcome = run(tiny_model, [float(-i) for i in range(200)], max_steps=99, check_every=10)
    assert outcome.terms[STEPS] == 99
    assert script.drawn == 98


def test_losses_of_texts_are_compared_per_token(tiny_model):
    # A loss of 10 on 2 tokens a text is more than one of 12 on 4 tokens.
    script = Script(tiny_model(), [10.0, 12.0, 12.0, 99.0])
    texts = iter([torch.tensor([[5, 6, 7, 2]] * 3), torch.tensor([[5, 2, 0, 0]] * 3)])
    script.random_batch = lambda: Batch(next(texts))
    strategy = Aggressive(check_every=1, padding=0)
    outcome = strategy(script, Batch(torch.tensor([[5, 2, 0, 0]] * 3)), Progress())
    # 5, 3 and 6 nats a token: the third step is the first that is worse.
    assert outcome.terms[STEPS] == 3
    special = DataSpec((9,), "tokens", vocabulary_size=20, special=SpecialTokens(padding=4))
    assert AggressiveConfig().build(BuildContext(special)).padding == 4
    assert AggressiveConfig().build(BuildContext(DataSpec((1, 2, 3), "binary"))).padding is None


def after(strategy, values):
    """Whether training is aggressive after each epoch, with the mutual information given."""
    numbers = iter(values)
    strategy._estimator = lambda model, batches: {"mutual_information": Estimate(next(numbers), "nats")}
    found = []
    for _ in values:
        strategy.epoch_ended(None, list)
        found.append(strategy.active)
    return found


def test_it_ends_after_epochs_without_a_new_best(tiny_model):
    # Image code: five misses, in a row or not. An equal value is no miss.
    values = [1.0, 0.9, 2.0, 1.9, 2.0, 1.0, 1.5, 3.0, 2.9, 9.0]
    expected = [True] * 8 + [False] * 2
    strategy = Aggressive(patience=5)
    assert after(strategy, values) == expected
    assert (strategy.best, strategy.misses, strategy.mutual_information) == (3.0, 5, 2.9)
    # Text code: the first drop.
    assert after(Aggressive(patience=1), [0.5, 0.7, 0.6, 0.8]) == [True, True, False, False]


def test_afterwards_steps_are_joint(tiny_model):
    script = Script(tiny_model(), [3.0])
    strategy = Aggressive(patience=1)
    after(strategy, [1.0, 0.5])
    outcome = strategy(script, BATCH, Progress())
    assert outcome.terms[STEPS] == 0
    assert outcome.weights[ACTIVE] == 0
    assert outcome.weights["baselines.aggressive/mutual_information"] == 0.5
    assert script.done == [("loss", 7), ("step", NETWORK | REST)]


def test_where_it_stands_is_saved():
    strategy = Aggressive(patience=3)
    after(strategy, [1.0, 0.5, 0.25])
    state = strategy.state_dict()
    assert state == {"active": True, "misses": 2, "best": 1.0, "mutual_information": 0.25}
    other = Aggressive(patience=3)
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert after(other, [0.9]) == [False]


PIPELINE = {
    "name": "aggressive",
    "data": {"type": "digits", "batch_size": 50, "binarize": "dynamic"},
    "model": {
        "encoder": {"type": "mlp", "hidden": [16]},
        "posterior": {"type": "gaussian", "latent_dim": 2},
        "decoder": {"type": "mlp", "hidden": [16]},
    },
    "training": {
        "epochs": 4,
        "device": "cpu",
        "strategy": {"type": "baselines.aggressive", "max_steps": 6, "check_every": 2, "patience": 1},
    },
}


@pytest.mark.filterwarnings("ignore")
def test_a_run_goes_on_where_it_was_stopped(tmp_path):
    def fit(folder, epochs, resume=False):
        training = {**PIPELINE["training"], "epochs": epochs}
        pipeline = Pipeline.from_dict({**PIPELINE, "training": training})
        return pipeline.fit(tmp_path / folder, resume=resume, quiet=True)

    whole, parts = fit("whole", 4), fit("parts", 2)
    parts = fit("parts", 4, resume=True)
    one, other = (run.checkpoints.open("last") for run in (whole, parts))
    assert all(torch.equal(value, other.weights()[name]) for name, value in one.weights().items())
    assert one.state()["strategy"] == other.state()["strategy"]
    rows = [row for row in whole.metrics() if row["split"] == "train"]
    assert rows[0][STEPS] > 1
    assert rows[0][ACTIVE] == 1

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uncollapse_report as report
from uncollapse.errors import CheckpointError
from uncollapse.pipeline import Pipeline
from uncollapse.training.run import Run
from uncollapse_report.collect import collect, collect_runs, curves, estimates


def pipeline(name: str, **more: Any) -> Pipeline:
    return Pipeline.from_dict(
        {
            "name": name,
            "data": {"type": "digits", "batch_size": 400},
            "model": {
                "encoder": {"type": "mlp", "hidden": [8]},
                "posterior": {"type": "gaussian", "latent_dim": 4},
                "decoder": {"type": "mlp", "hidden": [8]},
            },
            "training": {"epochs": 2, "log_every": 1},
            **more,
        }
    )


EVALUATION = {
    "estimators": [{"type": "mutual_information"}, {"type": "kl_per_dimension"}],
    "probes": [{"type": "knn"}],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    runs = tmp_path_factory.mktemp("runs")
    return pipeline("tiny", evaluation=EVALUATION, seed=5).fit(runs=runs, quiet=True)


class Fake:
    """A run with other results or weights than the real one's."""

    def __init__(
        self, run: Run, *, path: Path | None = None, results: Any = None, missing: tuple[str, ...] = ()
    ) -> None:
        self.run, self.path, self.results, self.missing = run, path or run.path, results, missing
        self.config, self.environment, self.metrics = run.config, run.environment, run.metrics

    def load(self, which: Any = "best") -> Any:
        if which in self.missing:
            raise CheckpointError(f"no {which} checkpoint")
        return self.run.load(which)


def test_a_run_is_collected_whole(run: Run) -> None:
    found = collect(run)
    assert (found.name, found.seed, found.latent_size) == ("tiny", 5, 4)
    assert found.evaluated_on == "test, 300 examples"
    assert found.measured_at.startswith("best, step ")
    assert found.findings[0].condition != "not enough data"
    assert {"mutual_information", "knn_accuracy"} <= found.numbers.keys()
    assert {(c.quantity, c.split) for c in found.curves} >= {
        (quantity, split) for quantity in ("loss", "rate", "distortion") for split in ("train", "validation")
    }
    assert "latent_dim: 4" in found.pipeline
    assert "packages" in found.environment
    measured = found.numbers["kl_per_dimension"].per_dimension
    assert measured is not None
    np.testing.assert_array_equal(found.views.kl_per_dimension, measured)
    assert found.views.pictures is not None
    assert found.views.omitted == {}


def test_the_page_of_a_real_run(run: Run, tmp_path: Path) -> None:
    before = sorted(run.path.rglob("*"))
    page = report.build([run], tmp_path / "new" / "report.html")
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "new" / "report.html"
    for words in ("<h1>tiny</h1>", "k-NN accuracy", "latent_dim: 4", "data:image/png;base64,"):
        assert words in text
    assert sorted(run.path.rglob("*")) == before, "a report changes nothing of the run"
    assert [p.name for p in page.parent.iterdir()] == ["report.html"], "nothing temporary stays"


def test_a_run_that_was_not_evaluated(run: Run) -> None:
    found = collect(Fake(run))
    assert found.findings == ()
    assert found.numbers == {}
    assert found.views.kl_per_dimension is not None


def test_a_diagnosis_of_the_measured_checkpoint_is_what_the_card_says(run: Run, tmp_path: Path) -> None:
    assert run.results is not None
    finding = {"condition": "over-informative", "evidence": "much too much", "units": [1, 2]}
    told = {"split": run.results["split"], "step": run.results["step"], "findings": [finding]}
    for changed, condition in (({}, "over-informative"), ({"step": 1}, None), ({"split": "train"}, None)):
        (tmp_path / "diagnosis.json").write_text(json.dumps({**told, **changed}))
        first = collect(Fake(run, results=run.results, path=tmp_path)).findings[0]
        assert (first.condition == "over-informative") == (condition is not None)
    assert collect(Fake(run, path=tmp_path)).findings[0].units == (1, 2), "nothing else was measured"


def test_the_last_model_stands_in_for_the_best(run: Run) -> None:
    assert collect(Fake(run, missing=("best",))).views.pictures is not None


def test_a_run_without_a_model_says_so(run: Run) -> None:
    found = collect(Fake(run, results=run.results, missing=("best", "last")))
    assert found.views.pictures is None
    assert found.views.omitted["pictures"] == "The trained model cannot be loaded: no best checkpoint"
    assert found.views.kl_per_dimension is not None, "what was measured needs no model"


def test_runs_of_one_name_are_told_apart(run: Run) -> None:
    missing = ("best", "last")
    runs = [Fake(run, path=Path("a/tiny"), missing=missing), Fake(run, path=Path("b/tiny"), missing=missing)]
    assert [r.name for r in collect_runs(runs)] == ["a/tiny", "b/tiny"]
    assert [r.name for r in collect_runs([runs[0], runs[0]])] == ["a/tiny #1", "a/tiny #2"]
    assert [r.name for r in collect_runs(runs[:1])] == ["tiny"]


def test_curves_of_metrics_rows() -> None:
    rows = [
        {"epoch": 1.0, "split": "train", "loss": 3.0, "rate": 1.0, "x.term/pull": 0.1, "x.term": 0.2, "lr": 1.0},
        {"epoch": 0.5, "split": "train", "loss": 4.0, "rate": None},
        {"epoch": 1.0, "split": "validation", "loss": float("nan")},
    ]
    found = {(c.quantity, c.split): c for c in curves(rows)}
    assert set(found) == {("loss", "train"), ("rate", "train"), ("x.term", "train"), ("loss", "validation")}
    assert found["loss", "train"].epochs.tolist() == [0.5, 1.0]
    assert found["loss", "train"].values.tolist() == [4.0, 3.0]
    assert found["rate", "train"].epochs.tolist() == [1.0]
    assert np.isnan(found["loss", "validation"].values).all()
    assert curves([]) == ()


def test_long_curves_are_thinned_by_averaging() -> None:
    rows = [{"epoch": i / 100, "split": "train", "loss": float(i % 2)} for i in range(5000)]
    curve = curves(rows)[0]
    assert len(curve.values) == len(curve.epochs) == 1000
    assert curve.values.mean() == pytest.approx(0.5)
    assert (np.diff(curve.epochs) > 0).all()


def test_estimates_of_results() -> None:
    raw = {
        "estimates": {"rate": {"value": None, "unit": "nats", "note": "not finite: inf", "per_dimension": [1, None]}},
        "probes": {"knn_accuracy": {"value": 0.5, "unit": "accuracy", "standard_error": 0.1, "added_later": 1}},
    }
    found = estimates(json.loads(json.dumps(raw)))
    assert np.isnan(found["rate"].value)
    np.testing.assert_array_equal(found["rate"].per_dimension, [1.0, np.nan])
    assert (found["knn_accuracy"].value, found["knn_accuracy"].standard_error) == (0.5, 0.1)
    assert estimates({}) == {}

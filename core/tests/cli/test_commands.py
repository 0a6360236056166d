"""What the commands do when everything is right."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, version
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from uncollapse import __version__
from uncollapse.cli import main
from uncollapse.cli.runs import checkpoint_of, print_results
from uncollapse.plugins.manager import DISABLE
from uncollapse.training.run import Run


def output(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must succeed, and return what it printed with single blanks."""
    capsys.readouterr()
    code = main(argv)
    said = capsys.readouterr()
    assert code == 0, said.err
    return re.sub(r"\s+", " ", said.out)


COMMANDS = [
    [],
    *([name] for name in ("train", "evaluate", "sample", "schema", "plugins")),
    ["plugins", "show"],
]


def test_help_imports_nothing_heavy() -> None:
    script = f"""
import sys
from uncollapse.cli import main
for command in {COMMANDS!r}:
    assert main([*command, "--help"]) == 0, command
assert main(["--version"]) == 0
heavy = ("torch", "numpy", "pydantic", "sklearn", "accelerate", "plotly", "yaml")
loaded = sorted(name for name in heavy if name in sys.modules)
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for words in ("--resume", "--checkpoint", "--sampler", "PIPELINE", "TYPE"):
        assert words in done.stdout


PATH = """\
import sys
sys.path.insert(0, {folder!r})
from uncollapse.cli import main
"""


def contribute(folder: Path, source: str, **commands: str) -> None:
    """Install a distribution that brings commands, as pip leaves it."""
    (folder / "guest_commands.py").write_text(source)
    info = folder / "guest-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    lines = [f"{name} = guest_commands:{function}" for name, function in commands.items()]
    (info / "entry_points.txt").write_text(
        "\n".join(["[uncollapse]", "guest = guest", "[uncollapse.commands]", *lines])
    )


def run_with(folder: Path, body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = PATH.format(folder=str(folder)) + body
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


GUEST = """\
import typer
def greet(name: str = "you") -> None:
    \"\"\"Say hello.\"\"\"
    print("hello", name)
several = typer.Typer(help="Several at once.")
@several.command("one")
def one() -> None:
    print("one of several")
@several.command("two")
def two() -> None:
    print("two of several")
nothing = 7
"""


def test_another_distribution_s_commands_are_found_by_metadata(tmp_path: Path) -> None:
    contribute(tmp_path, GUEST, greet="greet", several="several")
    done = run_with(tmp_path, "raise SystemExit(main(['greet', '--name', 'Ada']))")
    assert (done.returncode, done.stdout) == (0, "hello Ada\n"), done.stderr
    assert run_with(tmp_path, "main(['several', 'two'])").stdout == "two of several\n"
    said = run_with(tmp_path, "main(['--help']); assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)")
    assert said.returncode == 0, said.stderr
    assert re.search(r"greet +Say hello\.", said.stdout)
    assert re.search(r"several +Several at once\.", said.stdout)


def test_a_broken_command_says_why_and_takes_nothing_down(tmp_path: Path) -> None:
    contribute(tmp_path, "raise ImportError('no such library')", greet="greet")
    said = run_with(tmp_path, "main(['--help'])").stdout
    assert "(broken: importing guest_commands:greet raised ImportError: no such library)" in said
    done = run_with(tmp_path, "raise SystemExit(main(['greet', '--name', 'Ada']))")
    assert done.returncode == 2
    assert done.stderr == (
        "error: the command 'greet' of guest is broken: importing guest_commands:greet raised ImportError: no such "
        "library\n"
    )
    assert run_with(tmp_path, "raise SystemExit(main(['--version']))").returncode == 0


def test_what_is_no_command_is_broken(tmp_path: Path) -> None:
    contribute(tmp_path, GUEST, greet="nothing")
    done = run_with(tmp_path, "raise SystemExit(main(['greet']))")
    assert "guest_commands:nothing is no function and no typer.Typer: int" in done.stderr


def test_a_command_of_the_core_s_name_is_refused(tmp_path: Path) -> None:
    contribute(tmp_path, GUEST, train="greet")
    said = run_with(tmp_path, "main(['--help'])").stdout
    assert "guest also brings a command 'train', which is taken" in said
    assert "Say hello" not in said


@pytest.mark.parametrize("value", ["guest", "all"])
def test_commands_are_switched_off_with_their_plugin(value: str, tmp_path: Path) -> None:
    contribute(tmp_path, GUEST, greet="greet")
    done = run_with(tmp_path, "raise SystemExit(main(['greet']))", UNCOLLAPSE_DISABLE_PLUGINS=value)
    assert done.returncode == 2
    assert "No such command 'greet'" in done.stderr


def test_a_command_of_ours_that_is_not_installed_says_what_brings_it(tmp_path: Path) -> None:
    alone = """
import importlib.metadata as metadata
every = metadata.entry_points
def without(**options):
    return [p for p in every(**options) if p.dist.name != "uncollapse-diagnosis"]
import uncollapse.cli.contributed as contributed
contributed.entry_points = without
raise SystemExit(main({arguments}))
"""
    done = run_with(tmp_path, alone.format(arguments=["diagnose", "runs/x", "--split", "test"]))
    assert done.returncode == 2
    assert done.stderr == (
        "error: diagnose is not installed: it is part of uncollapse-diagnosis; pip install 'uncollapse[diagnosis]'\n"
    )
    assert "diagnose" not in run_with(tmp_path, alone.format(arguments=["--help"])).stdout


def test_garbage_is_searched_for_as_usual_after_the_first_time() -> None:
    script = """
import gc, sys
usual = gc.get_threshold()
from uncollapse.cli import main
sys.argv = ["uncollapse", "--version"]
main()
assert gc.get_threshold()[0] > 100 * usual[0], gc.get_threshold()
gc.collect()
assert gc.get_threshold() == usual, gc.get_threshold()
assert not gc.callbacks
main(["--version"])
assert gc.get_threshold() == usual, "only the process's own command line"
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_entry_point_is_installed() -> None:
    script = "from uncollapse.cli import main; raise SystemExit(main())"
    done = subprocess.run([sys.executable, "-c", script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"uncollapse {__version__}\n"
    assert version("uncollapse") == __version__


def test_train_keeps_everything_and_says_where(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = output(capsys, "train", "p.yaml", "--name", "other", "--runs", "here", "--set", "training.epochs=1")
    run = Run(folder / "here" / "other")
    assert run.config.training.epochs == 1
    assert run.config.name == "other"
    assert run.results is not None
    assert set(run.results["estimates"]) == {"elbo", "rate", "distortion"}
    assert "test split, 300 examples" in said
    assert "elbo" in said
    assert "Everything is in here/other. A page on it: uncollapse report here/other" in said


def test_train_quietly(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "train", "p.yaml", "--quiet") == ""
    assert Run("runs/tiny").results is not None


def test_a_name_of_digits_is_a_name(folder: Path) -> None:
    assert main(["train", "p.yaml", "--quiet", "--name", "2024", "--set", "evaluation={}"]) == 0
    assert Run("runs/2024").results is None


def test_resume_trains_longer(finished: Path) -> None:
    before = len(Run("runs/tiny").metrics())
    assert main(["train", "p.yaml", "--quiet", "--resume", "--set", "training.epochs=3"]) == 0
    assert Run("runs/tiny").config.training.epochs == 3
    assert len(Run("runs/tiny").metrics()) > before


def test_evaluate_measures_what_is_asked(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = output(
        capsys, "evaluate", "runs/tiny", "--split", "validation", "--set", "evaluation.estimators=[active_units]",
        "--set", "evaluation.probes=[{type: knn, neighbors: 3}]",
    )  # fmt: skip
    results = Run("runs/tiny").results
    assert results is not None
    assert results["split"] == "validation"
    assert results["examples"] == 200
    assert set(results["estimates"]) == {"active_units"}
    accuracy = results["probes"]["knn_accuracy"]["value"]
    assert f"{100 * accuracy:.4g} %" in said
    assert "validation split, 200 examples" in said
    assert "Written to runs/tiny/results.json" in said
    # What was trained is what it was.
    assert Run("runs/tiny").config.evaluation.split == "test"


def test_evaluate_without_a_section_measures_what_a_verdict_needs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "p.yaml", "--quiet", "--set", "evaluation={batch_size: 300}"]) == 0
    said = output(capsys, "evaluate", "runs/tiny", "--output", "numbers.json", "--checkpoint", "last")
    results = json.loads(Path("numbers.json").read_text())
    assert {"elbo", "mutual_information", "active_units"} <= set(results["estimates"])
    assert "collapsed: z carries 0.0" in said
    assert Run("runs/tiny").results is None


def test_sample_writes_numbers_that_follow_from_the_seed(finished: Path) -> None:
    def draw(name: str, *more: str) -> np.ndarray:
        assert main(["sample", "runs/tiny", "-n", "5", "-o", name, *more]) == 0
        with np.load(name) as arrays:
            x: np.ndarray = arrays["x"]
        return x

    first = draw("a.npz")
    assert first.shape == (5, 1, 8, 8)
    assert set(np.unique(first)) <= {0.0, 1.0}
    assert np.array_equal(first, draw("b.npz"))
    assert not np.array_equal(first, draw("c.npz", "--seed", "1"))
    means = draw("d.npz", "--sampler", "{type: ancestral, means: true}")
    assert ((means > 0) & (means < 1)).all()


def test_plugins_lists_all_and_why_some_are_not_there(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fresh_registry: Callable[[], None],
) -> None:
    (folder / "broken_plugin.py").write_text("raise ImportError('no such library')")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv(DISABLE, "absent")
    points = [EntryPoint(n, "broken_plugin", "uncollapse") for n in ("broken", "absent")]
    monkeypatch.setattr("uncollapse.plugins.manager.entry_points", lambda group: points)
    said = output(capsys, "plugins")
    assert f"core uncollapse {__version__}" in said
    assert "data arrays, digits" in said
    assert "broken: importing broken_plugin raised ImportError: no such library" in said
    assert f"switched off by the environment variable {DISABLE}" in said


def test_plugins_shows_a_component(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = output(capsys, "plugins", "show", "objective:elbo")
    assert f"elbo objective of core (uncollapse {__version__})" in said
    assert "Kingma and Welling (2014), eq. 3" in said
    assert "rate_weight │ number or schedule │" in said
    assert "samples │ integer ≥ 1 │ 1 │ draws of the posterior per example" in said
    said = output(capsys, "plugins", "show", "digits")
    assert "binarize │ none, dynamic, static, threshold │ none │" in said
    said = output(capsys, "plugins", "show", "posterior:gaussian")
    assert "latent_dim │ integer > 0 or list of integer > 0 │ (required) │" in said
    assert "moments │ list of moment transform │ [] │" in said


@pytest.mark.parametrize("name", ["standard_normal", "linear", "adam", "cosine", "arrays", "nll", "bernoulli"])
def test_plugins_shows_every_kind(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert name in output(capsys, "plugins", "show", name)


def test_every_table_names_its_checkpoint_and_step(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run("runs/tiny")
    steps = run.checkpoints.open("last").step
    said = output(capsys, "evaluate", "runs/tiny", "--checkpoint", "last")
    assert f"300 examples; checkpoint: last, step {steps} of {steps}" in said
    results = Run("runs/tiny").results
    assert results is not None
    assert (results["checkpoint"], results["step"], results["steps"]) == ("last", steps, steps)
    # Numbers of earlier versions do not know.
    assert checkpoint_of({"split": "test"}) == "step not recorded"


def test_a_best_checkpoint_that_is_early_is_worth_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    common = {"split": "test", "examples": 3, "latent_dim": 2, "classes": None, "estimates": {}, "probes": {}}
    for checkpoint, step, warned in (("best", 12, True), ("best", 60, False), ("last", 12, False)):
        print_results(Console(width=400), {**common, "checkpoint": checkpoint, "step": step, "steps": 120})
        assert ("The best checkpoint is early: step 12 of 120" in capsys.readouterr().out) == warned

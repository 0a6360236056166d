"""Commands and their options. What they do lies in modules that are imported when a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from ..scaffold.kinds import Kind
from .options import (
    CheckpointName,
    Decoding,
    Device,
    DeviceName,
    Failing,
    Open,
    Overrides,
    Quiet,
    RunPath,
    Runs,
    Split,
    Which,
)

__all__ = ["HELP", "app", "run"]

HELP = ["-h", "--help"]


app = typer.Typer(
    help="See, measure and cure posterior collapse in variational autoencoders.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": HELP},
)
plugins = typer.Typer(help="List what is installed, or show one component.")
app.add_typer(plugins, name="plugins")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"uncollapse {__version__}")
        raise typer.Exit


@app.callback()
def _everywhere(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print the traceback of an error, too. Also: UNCOLLAPSE_DEBUG=1.")
    ] = False,
) -> None:
    pass


@app.command()
def train(
    pipeline: Annotated[Path, typer.Argument(metavar="PIPELINE", help="Pipeline file (YAML).", show_default=False)],
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    runs: Runs = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the run; by default the pipeline's.")] = None,
    quiet: Quiet = False,
) -> None:
    """Train a pipeline, measure it, and keep everything in a run directory."""
    from .runs import train as run

    run(pipeline, overrides or [], resume=resume, runs=runs, name=name, quiet=quiet)


@app.command()
def evaluate(
    run: RunPath,
    split: Annotated[Split | None, typer.Option(help="Split; by default the pipeline's.", show_default=False)] = None,
    overrides: Overrides = None,
    checkpoint: CheckpointName = Which.best,
    device: DeviceName = Device.auto,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where the numbers go; by default the run's results.json, replaced."),
    ] = None,
) -> None:
    """Measure a trained run: what the pipeline's evaluation section asks for, and whether it has collapsed."""
    from .runs import evaluate as measure

    measure(run, None if split is None else split.value, overrides or [], checkpoint.value, device.value, output)


@app.command()
def sample(
    run: RunPath,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Number of samples.")] = 64,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A .png (images), .txt (texts) or .npz (key x); default: RUN/samples.png, .txt, .npz.",
        ),
    ] = None,
    sampler: Annotated[
        str, typer.Option(help="Sampler: its type, or YAML such as '{type: scaled_gaussian, scale: 0.7}'.")
    ] = "ancestral",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    checkpoint: CheckpointName = Which.best,
    device: DeviceName = Device.auto,
    reconstruct: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Texts: print N of them with their reconstructions instead."),
    ] = None,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="TEXT TEXT", help="Texts: print the way between two sentences instead."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=2, help="With --between: points on the way, both ends among them; 5 by default.")
    ] = None,
    decoding: Annotated[
        Decoding | None,
        typer.Option(help="How texts are read off p(x|z); samples are drawn by default, the others greedy."),
    ] = None,
    beam_size: Annotated[
        int | None, typer.Option(min=1, help="With --decoding beam: texts that are kept at a time; 5 by default.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.01, help="With --decoding sample: below 1 likely tokens gain; 1 by default.")
    ] = None,
) -> None:
    """Draw samples from a trained run; of texts also reconstructions, or sentences between two sentences."""
    for option, value, needed, given in (
        ("--reconstruct", reconstruct, "no --between", between is None),
        ("--steps", steps, "--between", between is not None),
        ("--beam-size", beam_size, "--decoding beam", decoding is Decoding.beam),
        ("--temperature", temperature, "--decoding sample", decoding is Decoding.sample),
    ):
        if value is not None and not given:
            raise typer.BadParameter(f"{option} needs {needed}")
    options = {"method": decoding and decoding.value, "beam_size": beam_size, "temperature": temperature}
    reading = {name: value for name, value in options.items() if value is not None}
    where = (output, seed, checkpoint.value, device.value)
    if reconstruct is not None:
        from .texts import reconstructions

        reconstructions(run, reconstruct, *where, reading)
    elif between is not None:
        from .texts import between as interpolate

        interpolate(run, between, steps or 5, *where, reading)
    else:
        from .samples import sample as draw

        draw(run, count, output, sampler, seed, checkpoint.value, device.value, reading)


@app.command()
def diagnose(
    run: RunPath,
    split: Annotated[Split | None, typer.Option(help="Split; by default the pipeline's.", show_default=False)] = None,
    examples: Annotated[int, typer.Option(min=1, help="Examples whose posteriors are read, at most.")] = 10_000,
    decoder_examples: Annotated[int, typer.Option(min=2, help="Examples that the decoder is tried on.")] = 256,
    refined_examples: Annotated[
        int, typer.Option(min=0, help="Examples whose posterior is refined, to see whether inference lags; 0 for none.")
    ] = 32,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    checkpoint: CheckpointName = Which.best,
    device: DeviceName = Device.auto,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="By default RUN/diagnosis.json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write the run's pipeline with the best installed remedy as a new file.")
    ] = False,
    remedy: Annotated[str | None, typer.Option(metavar="NAME", help="With --apply: this remedy.")] = None,
    pipeline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --apply: the file; by default NAME-REMEDY.yaml here.")
    ] = None,
    fail_on: Annotated[
        list[Failing] | None,
        typer.Option("--fail-on", help="Exit with 10 to 15 if this was found. May be repeated."),
    ] = None,
) -> None:
    """Say what condition a trained run is in (healthy, collapsed, and five others), why, and what treats it."""
    for option, value in (("--remedy", remedy), ("--pipeline", pipeline)):
        if value is not None and not apply:
            raise typer.BadParameter(f"{option} needs --apply")
    from ..diagnosis import Settings
    from .diagnose import diagnose as examine

    settings = Settings(
        examples=examples, decoder_examples=decoder_examples, refined_examples=refined_examples, seed=seed
    )
    where = (None if split is None else split.value, checkpoint.value, device.value)
    code = examine(
        run, *where, settings, output, as_json, apply, remedy, pipeline, [name.value for name in fail_on or []]
    )
    raise typer.Exit(code)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The page; by default RUN/report.html, or report.html for several."
        ),
    ] = None,
    open_: Open = False,
) -> None:
    """Write one self-contained page on one run, or on several side by side."""
    from .runs import report as write

    write(runs, output, show=open_)


@plugins.callback(invoke_without_command=True)
def list_plugins(context: typer.Context) -> None:
    """List every plugin with its components, what is broken and why, and what is switched off."""
    if context.invoked_subcommand is None:
        from .catalogue import list_plugins as show

        show()


@plugins.command("show")
def show_component(
    name: Annotated[
        str, typer.Argument(metavar="TYPE", help="Type of a component, or kind:type where two kinds share it.")
    ],
) -> None:
    """Show a component: what it does, where it comes from, and its fields."""
    from .catalogue import show_component as show

    show(name)


@app.command("new-plugin")
def new_plugin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the plugin: my-norm.", show_default=False)],
    kind: Annotated[Kind, typer.Option(metavar="KIND", help=f"Kind of component: {', '.join(Kind)}.")],
    path: Annotated[Path, typer.Option(metavar="DIR", help="Where its folder is made.")] = Path(),
    component: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the component in pipelines; by default its kind's.")
    ] = None,
) -> None:
    """Write a new plugin with a working component: code, tests, a pipeline, README and licence."""
    from .authors import new_plugin as write

    write(name, kind.value, path, component)


@app.command()
def check(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A plugin, a distribution, or a component's type.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Run the conformance kit over an installed plugin, or over one component; exit with 1 if something fails."""
    from .authors import check as run_kit

    if not run_kit(name, as_json=as_json):
        raise typer.Exit(1)


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="By default stdout.")] = None,
) -> None:
    """Print the JSON schema of pipeline files, with every installed component, for editors."""
    from .catalogue import write_schema

    write_schema(output)


@app.command()
def demo(
    seeds: Annotated[int, typer.Option(min=1, help="Seeds, from 0.")] = 1,
    runs: Runs = Path("runs/demo"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
    open_: Open = False,
) -> None:
    """Train the same strong decoder on real digits without a remedy and with every installed one, and compare."""
    from .runs import demo as compare

    compare(seeds, runs, quiet=quiet, show=open_)


def run(arguments: list[str]) -> None:
    """Run a command line; it ends in ``SystemExit``."""
    if arguments and arguments[-1] in HELP:
        # Typer imports pydantic to check the options of the groups on the way to a command, so the way is cut short.
        command, known = typer.main.get_command(app), True
        for name in arguments[:-1]:
            known = name in getattr(command, "commands", {})
            if not known:
                break
            command = command.commands[name]  # type: ignore[attr-defined]
        if known:
            command.main(args=["--help"], prog_name=" ".join(["uncollapse", *arguments[:-1]]))
    app(args=arguments, prog_name="uncollapse")

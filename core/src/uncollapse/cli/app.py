"""Commands and their options. What they do lies in modules that are imported when a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..version import __version__
from .contributed import contribute
from .options import CheckpointName, Device, DeviceName, Overrides, Quiet, RunPath, Runs, Split, Which

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
            help="The file; its suffix says the format. By default RUN/samples in the first format that fits the data.",
        ),
    ] = None,
    sampler: Annotated[
        str, typer.Option(help="Sampler: its type, or YAML such as '{type: ancestral, means: true}'.")
    ] = "ancestral",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    checkpoint: CheckpointName = Which.best,
    device: DeviceName = Device.auto,
) -> None:
    """Draw samples from a trained run: numbers, or what installed formats make of them (pictures, texts)."""
    from .samples import sample as draw

    draw(run, count, output, sampler, seed, checkpoint.value, device.value)


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


@app.command()
def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="By default stdout.")] = None,
) -> None:
    """Print the JSON schema of pipeline files, with every installed component, for editors."""
    from .catalogue import write_schema

    write_schema(output)


def run(arguments: list[str]) -> None:
    """Run a command line; it ends in ``SystemExit``."""
    contribute(app)
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

"""Everything in the documentation that looks like code is tried, by the language that its block states.

==============  =====================================================================================================
``python``      with ``>>>`` a doctest, all of a page in one go; without, run as a script, one name space for a page
``yaml``        a pipeline, or a fragment of one over the demo's; validated. On the page of a plugin that is not
                installed here, part of the pipeline beside it, which the test of that plugin trains
``console``     run by a shell in which every program is a stub that notes its arguments; each call is then checked: the
                command line's parser, the pipeline and its overrides, targets of ``make``, files, distributions. Where
                lines begin with ``$``, these are the commands and the others what they print
``json toml``   parsed
``text``        formulas and drawings: nothing to try
``{…}``         a directive: ``make docs`` builds it, with warnings as errors
==============  =====================================================================================================

A block in another language, or in none, fails. The commands of the start page are executed as well, on a tiny model.
"""

from __future__ import annotations

import doctest
import importlib
import json
import pkgutil
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command
from uncollapse.cli import main
from uncollapse.cli.app import app
from uncollapse.cli.contributed import contribute
from uncollapse.config import Installed
from uncollapse.config.load import load_config, parse_config

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = {f"uncollapse-{p.parent.name}": p.parent for p in sorted(ROOT.glob("plugins/*/pyproject.toml"))}
STRANGERS = {tomllib.loads(p.read_text())["project"]["name"]: p.parent for p in ROOT.glob("examples/*/pyproject.toml")}
DISTRIBUTIONS = {"uncollapse": ROOT / "core", **PLUGINS, **STRANGERS}
ELSEWHERE = {"docs/your_own_plugin.md": "test_tutorial.py"}
"""Pages that another test follows word for word, in an environment of their own."""
PAGES = sorted(
    page
    for pattern in ("*.md", "core/README.md", "docs/*.md", "plugins/*/README.md", "examples/*/README.md")
    for page in ROOT.glob(pattern)
)
LANGUAGES = {"python", "yaml", "console", "json", "toml", "text"}


@dataclass(frozen=True)
class Block:
    """A fenced block: the page, the line it begins at, its language, and what it holds."""

    page: Path
    line: int
    language: str
    body: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_in(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in re.finditer(r"^(`{3,}|:{3,})([^\n`]*)\n(.*?)^\1[ ]*$", text, flags=re.DOTALL | re.MULTILINE):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found[2].strip(), found[3])


BLOCKS = [b for page in PAGES if str(page.relative_to(ROOT)) not in ELSEWHERE for b in blocks_in(page)]


def blocks_of(language: str) -> Any:
    return pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == language], ids=str)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to an empty folder that has the repository's examples, as a reader's checkout has."""
    for name in ("benchmarks", "core", "docs", "examples", "plugins"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -------------------------------------------------------------------------------------------------------------- python


def modules_with_examples() -> list[str]:
    found = []
    for name in [d.replace("-", "_") for d in DISTRIBUTIONS if d not in STRANGERS]:
        package = importlib.import_module(name)
        names = [name, *(m.name for m in pkgutil.walk_packages(package.__path__, f"{name}."))]
        for module in names:
            spec = importlib.util.find_spec(module)
            if spec and spec.origin and ">>>" in Path(spec.origin).read_text():
                found.append(module)
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("page", [p for p in PAGES if ">>>" in p.read_text()], ids=lambda p: str(p.relative_to(ROOT)))
def test_python_sessions(page: Path, workplace: Path) -> None:
    result = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


SCRIPTS = {page: [b for b in BLOCKS if b.page == page and b.language == "python" and ">>>" not in b.body] for page in PAGES}  # fmt: skip


@pytest.mark.parametrize("page", [p for p in PAGES if SCRIPTS[p]], ids=lambda p: str(p.relative_to(ROOT)))
def test_python_scripts(page: Path, workplace: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__page__"}
    for block in SCRIPTS[page]:
        exec(compile("\n" * block.line + block.body, str(page), "exec"), namespace)


# ---------------------------------------------------------------------------------------------------------------- data


def over(base: Mapping[str, Any], fragment: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with a fragment over it; a component is replaced whole."""
    merged = dict(base)
    for key, value in fragment.items():
        section = isinstance(value, Mapping) and "type" not in value and isinstance(merged.get(key), Mapping)
        merged[key] = over(merged[key], value) if section else value
    return merged


@blocks_of("yaml")
def test_pipelines_and_fragments(block: Block) -> None:
    raw = yaml.safe_load(block.body)
    if block.page.parent in STRANGERS.values():
        whole = yaml.safe_load((block.page.parent / "pipeline.yaml").read_text())
        assert over(whole, raw) == whole
        return
    if not {"name", "data", "model"} <= raw.keys():
        base = yaml.safe_load((files("uncollapse_report.demo") / "vae.yaml").read_text())
        raw = over(over(base, {"training": {"epochs": 1000}}), raw)
    parse_config(raw, origin=str(block))


def test_json_and_toml() -> None:
    for block in BLOCKS:
        parse = {"json": json.loads, "toml": tomllib.loads}.get(block.language)
        if parse is not None:
            parse(block.body)


def test_pages_are_tried_here_or_elsewhere() -> None:
    for page, test in ELSEWHERE.items():
        assert f'"{Path(page).name}"' in (ROOT / "tests" / test).read_text()


def test_every_block_states_a_language_that_is_tried() -> None:
    assert BLOCKS
    unknown = [
        f"{b}: {b.language or 'no language'}" for b in BLOCKS if b.language not in LANGUAGES and b.language[:1] != "{"
    ]
    assert unknown == [], f"say one of {', '.join(sorted(LANGUAGES))}"


# ------------------------------------------------------------------------------------------------------------ commands

PROGRAMS = ("uncollapse", "make", "pip", "python", "pytest", "torchrun", "accelerate", "mkdir", "tar", "git")
# In one write, since programs that run at once append to the same file; a call ends in a word that is a line's end.
STUB = """#!/bin/sh
printf '%s\\0' "$(basename "$0")" "$@" '
' >> "$CALLS"
"""


def calls_in(block: Block, folder: Path) -> list[list[str]]:
    """Return the arguments of every program that the shell would have started, loops run and variables filled in."""
    programs, calls = folder / "programs", folder / "calls"
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).write_text(STUB)
        (programs / name).chmod(0o755)
    (programs / "basename").symlink_to(shutil.which("basename") or "/usr/bin/basename")
    calls.write_text("")
    prompted = [line[2:] for line in block.body.splitlines() if line.startswith("$ ")]
    script = "\n".join(["set -e", "cd() { :; }", *(prompted or [block.body]), "wait", ""])
    environment = {"PATH": str(programs), "CALLS": str(calls)}
    bash = shutil.which("bash")
    assert bash, "commands are tried with bash"
    done = subprocess.run([bash, "--norc", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{block}: {done.stderr}"
    assert "not found" not in done.stderr, f"{block}: {done.stderr}"
    return [call.split("\0")[:-1] for call in calls.read_text().split("\n\0") if call]


def check_call(words: list[str]) -> None:
    program, *rest = words
    if program in ("torchrun", "accelerate"):
        place = rest.index("-m")
        assert rest[place + 1] == "uncollapse", words
        check_uncollapse(rest[place + 2 :])
    elif program == "uncollapse":
        check_uncollapse(rest)
    elif program == "python":
        check_script(rest)
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text()
        for word in rest:
            name, sign, _ = word.partition("=")
            assert re.search(rf"^{name} \?=" if sign else rf"^{name}:", makefile, re.MULTILINE), f"make has no {word!r}"
    elif program == "pip":
        check_pip(rest)


def check_uncollapse(words: list[str]) -> None:
    """Let the command line's own parser read the words, and validate the pipeline that they name."""
    contribute(app)
    command: Any = get_command(app)
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"uncollapse has no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    if hasattr(command, "commands"):
        return
    given = command.make_context(command.name, list(words)).params
    pipeline = given.get("pipeline")
    if pipeline is not None and (ROOT / pipeline).exists():
        load_config(ROOT / pipeline, given["overrides"] or [])
    elif pipeline is not None:
        assert len(Path(pipeline).parts) == 1, f"{pipeline} is not in the repository"
    if "sampler" in given:
        Installed("sampler").resolve(yaml.safe_load(given["sampler"]))


def check_script(words: list[str]) -> None:
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]) is not None, words
        return
    source = (ROOT / words[0]).read_text()
    for option in (w.partition("=")[0] for w in words[1:] if w.startswith("--")):
        assert f'"{option}"' in source, f"{words[0]} has no option {option}"


def check_pip(words: list[str]) -> None:
    assert words[0] == "install", words
    for before, word in pairwise(words):
        if before == "-e":
            path, _, extras = word.partition("[")
            folder = ROOT / path
        elif word.startswith("-"):
            continue
        else:
            name, _, extras = word.partition("[")
            assert name in DISTRIBUTIONS, f"{name} is no distribution of this repository"
            folder = DISTRIBUTIONS[name]
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        asked = {e for e in extras.rstrip("]").split(",") if e}
        assert asked <= set(project.get("optional-dependencies", {})), f"{word}: no such extra"


def check_block(block: Block, folder: Path) -> None:
    calls = calls_in(block, folder)
    assert calls, f"{block}: no command"
    for words in calls:
        check_call(words)


@blocks_of("console")
def test_commands(block: Block, workplace: Path) -> None:
    check_block(block, workplace)


@pytest.mark.parametrize(
    "line",
    [
        "uncollapse trian digits.yaml",
        "uncollapse train digits.yaml --epochs 3",
        "uncollapse train examples/mae/mnist.yaml --set training.epoch=3",
        "uncollapse train examples/mae/mnits.yaml",
        "uncollapse sample runs/x --count none",
        "uncollapse sample runs/x --sampler ancestrall",
        "torchrun -m uncollapse trian digits.yaml",
        "python examples/own_lop.py",
        "python examples/collapse/study.py --eposch 3",
        "make demoo",
        "pip install uncollapse[vison]",
        "uncolapse train digits.yaml",
    ],
)
def test_a_wrong_command_is_seen(line: str, workplace: Path) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - of click, of the configs, or an assertion
        check_block(Block(ROOT / "README.md", 0, "console", line), workplace)


TINY = ["training.epochs=1", "training.device=cpu", "data.limit=100", "model.decoder.channels=8", "model.decoder.kernels=[3, 3]"]  # fmt: skip


def test_the_start_page_s_commands_run(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = [b for b in BLOCKS if b.page == ROOT / "docs" / "start.md"]
    (pipeline,) = (b.body for b in page if b.language == "yaml")
    (workplace / "digits.yaml").write_text(pipeline)
    for number, block in enumerate(b for b in page if b.language == "console"):
        folder = workplace / f"shell{number}"
        folder.mkdir()
        for program, *words in calls_in(block, folder):
            small = [w for field in TINY for w in ("--set", field)] if words[:1] == ["train"] else []
            if program == "uncollapse":
                assert main([*words, *small]) == 0, capsys.readouterr().err
    # One for each thing that the page promises.
    for made in ("runs/digits/results.json", "runs/digits-mae/samples.png", "compared.html", "pipeline.schema.json"):
        assert (workplace / made).stat().st_size > 0, made

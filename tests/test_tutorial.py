"""The tutorial, word for word: its commands run in a fresh environment, its files are written where it says."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from environments import ROOT, Environment, Provide

PAGE = ROOT / "docs" / "your_own_plugin.md"


@dataclass(frozen=True)
class Block:
    """A fenced block of the page, and the text before it."""

    language: str
    body: str
    told: str


def blocks() -> list[Block]:
    found, end = [], 0
    text = PAGE.read_text()
    for fence in re.finditer(r"^```(\w+)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        found.append(Block(fence[1], fence[2], text[end : fence.start()]))
        end = fence.end()
    return found


def sessions(body: str) -> list[tuple[str, list[str]]]:
    """Return every command of a console block with the lines of output that the page shows."""
    found: list[tuple[str, list[str]]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def shows(expected: list[str], output: str) -> bool:
    """Whether output is what a page shows, ``...`` standing for anything; blanks at ends of lines do not count."""
    wanted = "\n".join(line.rstrip() for line in expected)
    found = "\n".join(line.rstrip() for line in output.strip("\n").splitlines())
    pattern = re.escape(wanted).replace(re.escape("...\n"), r"(?:.*\n)?").replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, found, flags=re.DOTALL) is not None


class Reader:
    """Somebody who does what the page says: types its commands, one after the other, and pastes its files."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        self.environment, self.folder = environment, folder

    def types(self, command: str) -> str:
        """Run a command in the shell and return what it shows."""
        if command.startswith("cd "):
            self.folder /= shlex.split(command)[1]
            return ""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}"
        return done.stdout

    def replaces(self, block: Block) -> None:
        """Replace the file that a block names in its first line, and that the text before it tells to replace."""
        marker, _, content = block.body.partition("\n")
        name = marker.removeprefix("# ")
        assert f"Replace\n`{name}` by this" in block.told or f"Replace `{name}` by this" in block.told, name
        assert (self.folder / name).exists(), f"{name} is not among the generated files"
        (self.folder / name).write_text(content)


def test_the_tutorial_word_for_word(environment: Environment, provide: Provide, tmp_path: Path) -> None:
    provide("report", "kit")
    reader = Reader(environment, tmp_path)
    kinds = []
    for block in blocks():
        kinds.append(block.language)
        if block.language != "console":
            reader.replaces(block)
            continue
        for command, expected in sessions(block.body):
            output = reader.types(command)
            assert shows(expected, output), f"$ {command}\n{output}\nbut the page shows\n" + "\n".join(expected)
    assert kinds == ["console", "console", "console", "python", "python", "yaml", "console", "console", "console"]
    run = reader.folder / "runs" / "capacity"
    page = (run / "report.html").read_text()
    assert "capacity.regularizer over" in page  # Its chart.
    assert "- type: capacity.regularizer" in page  # The pipeline.
    estimates = json.loads((run / "results.json").read_text())["estimates"]
    for name, told in (("rate", "the rate stands at 5.0 nats"), ("mutual_information", "code is 3.3 nats")):
        assert told in " ".join(PAGE.read_text().split())
        assert estimates[name]["value"] == pytest.approx(float(told.split()[-2]), abs=0.4), name


@pytest.mark.parametrize(
    ("expected", "output", "fits"),
    [
        (["one", "..."], "one\ntwo\nthree\n", True),
        (["...", "three"], "one\ntwo\nthree\n", True),
        (["...", "one"], "one\n", True),
        (["3 passed..."], "3 passed in 0.1s\n", True),
        (["one", "three"], "one\ntwo\nthree\n", False),
        (["...", "four"], "one\ntwo\n", False),
        ([], "", True),
        ([], "something\n", False),
    ],
)
def test_what_counts_as_shown(expected: list[str], output: str, fits: bool) -> None:
    assert shows(expected, output) is fits

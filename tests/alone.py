"""Run each distribution's tests in an environment of its own, beside the core and what it declares and nothing else.

``python tests/alone.py`` takes them all, ``python tests/alone.py text latents`` these. It takes several times as long as
the whole of ``make test``, which runs the same tests in one environment; run it before a release.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environments import ROOT, build_wheel, new_environment

PROJECTS = {"core": ROOT / "core", **{p.parent.name: p.parent for p in sorted(ROOT.glob("plugins/*/pyproject.toml"))}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PROJECTS)}; by default all")
    names = parser.parse_args().names or list(PROJECTS)
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        wheels = Path(folder, "wheels")
        wheels.mkdir()
        for project in PROJECTS.values():
            build_wheel(project, wheels)
        for name in names:
            environment = new_environment(Path(folder, name), wheels)
            distribution = "uncollapse" if name == "core" else f"uncollapse-{name}"
            environment.run("pip", "install", "--quiet", f"{distribution}[test]")
            # What the tests read of the machine: real data beside the checkout, and a browser.
            variables = {**environment.variables, "PATH": f"{environment.folder / 'bin'}:{os.environ['PATH']}"}
            start = time.monotonic()
            done = subprocess.run(
                [environment.folder / "bin" / "python", "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider",
                 "--durations=0", "--durations-min=1000", PROJECTS[name] / "tests"],
                cwd=ROOT, env=variables, capture_output=True, text=True, check=False,
            )  # fmt: skip
            last = (done.stdout.strip() or done.stderr.strip() or "nothing was said").splitlines()[-1]
            print(f"{distribution}: {last} [{time.monotonic() - start:.0f} s]", flush=True)
            if done.returncode:
                failed.append(name)
                print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())

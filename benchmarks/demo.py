"""What does `make demo` bring, and how long does it take once everything is installed?

    python benchmarks/demo.py [--out FOLDER]

Runs examples/demo.yaml from the table to the report in a folder of its own and keeps the report without its texts.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from keeping import keep, report_without_texts

RECIPE = Path(__file__).parents[1] / "examples" / "demo.yaml"
PACKAGES = ("tunesmith", "torch", "transformers", "peft")


def run(recipe: Path, out: Path, sets: list[str]) -> float:
    """Run a recipe, or finish a run that was interrupted, and return the seconds of this call."""
    start = time.monotonic()
    options = [part for item in sets for part in ("--set", item)]
    subprocess.run([sys.executable, "-m", "tunesmith.cli", "run", recipe, "--out", out, *options], check=True)
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out or Path(tempfile.mkdtemp()) / "demo"
    seconds = run(RECIPE, out, [])
    found = {
        "question": "what does the demonstration bring, and how long does it take after the set-up?",
        "seconds": round(seconds, 1),
        "report": report_without_texts(out / "report.json"),
    }
    keep("demo", found, packages=PACKAGES)


if __name__ == "__main__":
    main()

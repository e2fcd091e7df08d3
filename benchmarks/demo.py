"""How long does `make demo` take from a fresh clone, and what does it bring?

    python benchmarks/demo.py [--folder FOLDER]

Clones this repository into FOLDER (a new temporary one), where `make demo` sets everything up, fetches the model into
a folder of its own and runs examples/demo.yaml. Keeps the seconds, and the report without its texts.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

from keeping import keep, report_without_texts

HERE = Path(__file__).parents[1]
PACKAGES = ("tunesmith", "torch", "transformers", "peft")
GOAL = 600.0  # seconds, on two cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp())
    clone, home = folder / "clone", folder / "models"
    subprocess.run(["git", "clone", "--quiet", str(HERE), str(clone)], check=True)
    started, begun = time.time(), time.monotonic()
    subprocess.run(["make", "demo"], cwd=clone, env={**os.environ, "TUNESMITH_HOME": str(home)}, check=True)
    seconds = time.monotonic() - begun
    found = {
        "question": "how long does make demo take from a fresh clone, and what does it bring?",
        "goal seconds": GOAL,
        "seconds": round(seconds, 1),
        "of which to set up": round((clone / ".venv" / "installed").stat().st_mtime - started, 1),
        "report": report_without_texts(clone / "runs" / "demo" / "report.json"),
    }
    keep("demo", found, packages=PACKAGES)


if __name__ == "__main__":
    main()

"""The peers' own environment: the versions that constraints.txt names, and trl beside them.

It is made once, in ``.venv-peers`` of the repository, by the script that needs it. The package index decides the build
of torch; on a machine without a graphics card, point ``PIP_EXTRA_INDEX_URL`` at PyTorch's index of CPU builds.
"""

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-peers"
CONSTRAINTS = ROOT / "constraints.txt"
TRL = "trl==1.16.0"
PACKAGES = ("torch", "transformers", "peft", "accelerate")
CALM = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}


def peers_python(given: Path | None) -> Path:
    """Return the Python that the peers run in: the given one, or that of the environment made here."""
    if given is not None:
        return given
    python, stamp = FOLDER / "bin" / "python", FOLDER / "installed.txt"
    wanted = "\n".join([*pinned(), TRL])
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"setting up {FOLDER.name}: once, some minutes", file=sys.stderr, flush=True)
        venv.create(FOLDER, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-c", CONSTRAINTS]
        subprocess.run([*install, *pinned(), TRL], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def pinned() -> list[str]:
    """Return the requirements of the peers that tunesmith has too, in the same versions."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.split("==")[0] in PACKAGES]

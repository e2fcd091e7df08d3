import sys
from pathlib import Path

# workshop.py is a plain module beside the tests of training, whatever import mode pytest runs in
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

import sys
from pathlib import Path

# the builders of short examples stand beside the tests of training
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "training")]

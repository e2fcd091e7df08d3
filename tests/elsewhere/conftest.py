import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the device is a plain module beside its cases

from device import built, elsewhere  # noqa: F401 fixtures

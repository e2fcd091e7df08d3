import os
import subprocess
import sys

import pytest

PRODUCTS = """
import sys
if sys.argv[1] == "calm":
    from tunesmith.environment import calm
    calm()
import torch
from tunesmith.planning.probe import resident
torch.set_num_threads(1)
a, b = torch.randn(800, 576).bfloat16(), torch.randn(576, 1536).bfloat16()
before = resident()
for rows in range(400, 700):
    a[:rows] @ b
print(resident() - before)
"""


def grown(how: str) -> int:
    """Bytes that 300 products of different shapes leave behind in a process that no other has told anything."""
    own = {key: value for key, value in os.environ.items() if not key.endswith("_CACHE_CAPACITY")}
    done = subprocess.run([sys.executable, "-c", PRODUCTS, how], capture_output=True, text=True, check=True, env=own)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_products_of_many_shapes_do_not_fill_the_memory() -> None:
    usual = grown("as it comes")
    if usual < 300e6:
        pytest.skip("this machine keeps no programs for products in bfloat16")
    assert grown("calm") < 0.7 * usual

"""tunesmith's own answers to a given set of prompts: ``python own_answering.py ORDER.json``."""

import time
from pathlib import Path

from turn import finish, obey, peak_bytes, read_order, settle, warm_up


def main() -> None:
    from tunesmith.environment import calm

    calm()
    order = read_order()
    obey(order)
    import torch

    from tunesmith.inference.generate import generate
    from tunesmith.models.load import load
    from tunesmith.settings import GenerateSettings

    stream = order["stream"]
    loaded = load(Path(order["model"]), dtype=getattr(torch, order["dtype"]))
    first, few = warm_up()
    generate(loaded, stream["prompts"][:first], settings=GenerateSettings(), max_new_tokens=few)
    settle()
    start = time.perf_counter()
    answers = generate(loaded, stream["prompts"], settings=GenerateSettings(), max_new_tokens=stream["new"])
    settle()
    seconds = time.perf_counter() - start
    finish(order, seconds=[0.0, seconds], answers=[list(answer.ids) for answer in answers], peak_bytes=peak_bytes())


if __name__ == "__main__":
    main()

"""At which learning rate does each method learn DialogSum best?

    python benchmarks/rates.py --data FOLDER [--out FOLDER] [--cells CELL ...]
        [--limit N] [--epochs N] [--at-once N]

The lowest loss on the validation rows, which are a tenth of train_small.jsonl, for rates that are too low, right and
too high, of methods that learn weights of the base itself, and of LoRA for comparison. The default rates of the methods
come from it: rows that a candidate is tested on have no say in them, and the 20 of dev.jsonl that each cell answers
are there because a run tests whatever it trains. FOLDER is that of benchmarks/methods.py. The same command goes on
where it was stopped.
"""

from typing import Any

from cells import Cell, Sweep, main

TRIED: tuple[tuple[str, dict[str, Any], tuple[float, ...]], ...] = (
    ("modules", {"method": "modules", "patterns": ["*.v_proj"]}, (5e-5, 1.5e-4, 4e-4, 1e-3)),
    ("sparse", {"method": "sparse"}, (5e-5, 1.5e-4, 4e-4, 1e-3)),
    ("embeddings", {"method": "embeddings"}, (5e-5, 4e-4, 1e-3, 3e-3)),
    ("last-layers", {"method": "last-layers"}, (1.5e-4, 4e-4, 1e-3)),
    ("pissa", {"method": "lora", "init": "pissa"}, (1e-4, 2e-4, 5e-4)),
    ("full", {"method": "full"}, (2e-5, 5e-5, 1e-4, 2e-4)),
    ("lora", {"method": "lora"}, (2e-4, 5e-4, 1e-3)),
)

SWEEP = Sweep(
    name="rates",
    question="At which learning rate does each method learn DialogSum best?",
    cells=tuple(
        Cell(f"{name}-{rate:g}", {**candidate, "train": {"learning_rate": rate}})
        for name, candidate, rates in TRIED
        for rate in rates
    ),
    rows=20,
)

if __name__ == "__main__":
    main(SWEEP, __doc__)

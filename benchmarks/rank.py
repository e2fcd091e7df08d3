"""What rank does LoRA need?

    python benchmarks/rank.py --data FOLDER [--out FOLDER] [--cells CELL ...]
        [--limit N] [--rows N] [--epochs N] [--at-once N]

LoRA of rank 1 to 64 on all linear layers, alpha always twice the rank, and all else as it is by default. FOLDER is that
of benchmarks/methods.py. 200 rows of dev.jsonl are tested on; the result says so. The same command goes on where it was
stopped.
"""

from cells import Cell, Sweep, main

RANKS = (16, 1, 64, 4, 2, 8, 32)  # the ends first, so that a part of them shows the trend

SWEEP = Sweep(
    name="rank",
    question="What rank does LoRA need?",
    cells=tuple(Cell(f"rank-{rank}", {"method": "lora", "rank": rank}) for rank in RANKS),
    rows=200,
)

if __name__ == "__main__":
    main(SWEEP, __doc__)

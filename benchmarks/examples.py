"""How much is gained with 50, 100, 200, 400, 600 examples to learn from?

    python benchmarks/examples.py --data FOLDER [--out FOLDER] [--cells CELL ...]
        [--rows N] [--epochs N] [--at-once N]

LoRA and full tuning, each example seen as often as ever; and LoRA seeing few examples so often that it takes about as
many steps as with 600 (``lora-long``). The smaller sets are parts of the larger ones. No row is kept back to validate,
so the last weights are tested. FOLDER is that of benchmarks/methods.py. 200 rows of dev.jsonl are tested on; the result
says so. The same command goes on where it was stopped.
"""

from cells import Cell, Sweep, main

NUMBERS = (50, 100, 200, 400, 600)

SWEEP = Sweep(
    name="examples",
    question="How much is gained with 50 to 600 examples to learn from?",
    cells=(
        *(Cell(f"lora-{n}", {"method": "lora"}, examples=n) for n in NUMBERS),
        *(Cell(f"lora-long-{n}", {"method": "lora"}, examples=n, passes=600 / n) for n in NUMBERS[:-1]),
        *(Cell(f"full-{n}", {"method": "full"}, examples=n) for n in NUMBERS),
    ),
    rows=200,
    validation=0.0,
)

if __name__ == "__main__":
    main(SWEEP, __doc__)

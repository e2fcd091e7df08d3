"""How many virtual tokens should a soft prompt have, what should they begin with, and at which rate do they learn?

    python benchmarks/prompt_length.py --data FOLDER [--out FOLDER] [--cells CELL ...]
        [--limit N] [--rows N] [--epochs N] [--at-once N]

A soft prompt of 5 to 100 tokens with the other defaults; then 20 tokens with other beginnings and at other rates, from
a tenth of the default to ten times as high. FOLDER is that of benchmarks/methods.py. 200 rows of dev.jsonl are tested
on; the result says so. The same command goes on where it was stopped.
"""

from cells import Cell, Sweep, main

LENGTHS = (20, 5, 10, 50, 100)
RATES = (1e-3, 3e-3, 3e-2, 1e-1)  # beside the default of 1e-2

SWEEP = Sweep(
    name="prompt_length",
    question="How many virtual tokens should a soft prompt have, begun how, at which rate?",
    cells=(
        *(Cell(f"tokens-{v}", {"method": "soft-prompt", "tokens": v}) for v in LENGTHS),
        *(Cell(f"init-{one}", {"method": "soft-prompt", "tokens": 20, "init": one}) for one in ("vocab", "random")),
        *(
            Cell(f"rate-{rate:g}", {"method": "soft-prompt", "tokens": 20, "train": {"learning_rate": rate}})
            for rate in RATES
        ),
    ),
    rows=200,
)

if __name__ == "__main__":
    main(SWEEP, __doc__)

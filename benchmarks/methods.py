"""What does each way to tune gain on DialogSum, and what does it cost?

    python benchmarks/methods.py --data FOLDER [--out FOLDER] [--cells CELL ...]
        [--limit N] [--rows N] [--epochs N] [--at-once N]

Every method of tunesmith on the built-in model, with its own defaults but for `epochs`, which is 2 where a method has
no number of its own: ROUGE-1, 2 and L with intervals, the gain over the base, trainable parameters and their share,
bytes on disk, seconds, the highest memory. FOLDER holds train_small.jsonl (to learn from and validate) and dev.jsonl
(to test), with the fields dialogue and summary. The same command goes on where it was stopped; the result, written
after every cell, says which are missing. About three quarters of an hour for each cell on two cores; ``--at-once``
runs several side by side where there is room for them.
"""

from cells import Cell, Sweep, main

SWEEP = Sweep(
    name="methods",
    question="What does each way to tune gain on DialogSum, and what does it cost?",
    cells=(
        Cell("lora", {"method": "lora"}),
        Cell("full", {"method": "full"}),
        Cell("soft-prompt", {"method": "soft-prompt"}),
        Cell("bottleneck", {"method": "bottleneck"}),
        Cell("prefix", {"method": "prefix"}),
        Cell("ia3", {"method": "ia3"}),
        Cell("last-layers", {"method": "last-layers"}),
        Cell("sparse-fisher", {"method": "sparse"}),
        Cell("sparse-sam", {"method": "sparse", "score": "sam"}),
        Cell("norms", {"method": "norms"}),
        Cell("embeddings", {"method": "embeddings"}),
        Cell("p-tuning", {"method": "p-tuning"}),
        Cell("qlora", {"method": "qlora"}),
        Cell("modules", {"method": "modules", "patterns": ["*.v_proj"]}),
        Cell("bottleneck-parallel", {"method": "bottleneck", "place": "parallel"}),
        Cell("lora-attention", {"method": "lora", "targets": "attention"}),
        Cell("lora-rslora", {"method": "lora", "rslora": True, "rank": 64}),
        Cell("lora-dora", {"method": "lora", "dora": True}),
        Cell("lora-pissa", {"method": "lora", "init": "pissa"}),
        Cell("lora-6-epochs", {"method": "lora", "train": {"epochs": 6.0}}),  # as many as methods with their own number
        Cell("bitfit", {"method": "bitfit"}),  # a base without biases refuses it, and the table says so
        Cell("head", {"method": "head"}),  # the same weights as embeddings where the two are tied
    ),
)

if __name__ == "__main__":
    main(SWEEP, __doc__)

"""Every method of the table as a recipe has it, small enough for tiny models."""

from typing import Any

CASES: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "last-layers": {"method": "last-layers", "layers": 1},
    "last-layers and head": {"method": "last-layers", "layers": 1, "head": True},
    "modules": {"method": "modules", "patterns": ["*.v_proj", "*.q", "*.wo"]},
    "bitfit": {"method": "bitfit"},
    "norms": {"method": "norms"},
    "embeddings": {"method": "embeddings"},
    "head": {"method": "head"},
    "sparse": {"method": "sparse", "share": 0.01, "examples": 4},
    "sparse by sam": {"method": "sparse", "share": 0.01, "examples": 4, "score": "sam"},
    "lora": {"method": "lora", "rank": 4},
    "dora": {"method": "lora", "rank": 4, "dora": True},
    "pissa": {"method": "lora", "rank": 4, "init": "pissa"},
    "pissa, rslora, dora": {"method": "lora", "rank": 4, "init": "pissa", "rslora": True, "dora": True},
    "qlora": {"method": "qlora", "rank": 4},
    "soft-prompt": {"method": "soft-prompt", "tokens": 4, "init": "vocab"},
    "p-tuning": {"method": "p-tuning", "tokens": 4, "width": 8},
    "prefix": {"method": "prefix", "tokens": 4, "init": "random"},
    "ia3": {"method": "ia3"},
    "bottleneck": {"method": "bottleneck", "width": 8},
    "parallel bottleneck": {"method": "bottleneck", "width": 8, "place": "parallel"},
}
"""Name of a case -> what the recipe says."""

BY_KIND: dict[tuple[str, str], dict[str, Any]] = {
    ("modules", "causal"): {"patterns": ["*.v_proj"]},
    ("modules", "seq2seq"): {"patterns": ["*.q", "*.wo"]},
}
"""Case and architecture -> what the recipe says otherwise."""

IDS = (5, 17, 40, 300, 8, 9, 31)


def moved(model: Any) -> Any:
    """Make B of LoRA something, so that its gradient is not that of a layer that does nothing."""
    import torch

    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
    return model


def virtual_of(model: Any) -> tuple[int, ...]:
    """Return the ids that every prompt of a model begins with."""
    known: dict[str, tuple[int, ...]] = getattr(model.get_input_embeddings(), "virtual", {})
    return known.get("", ())


def logits(model: Any, kind: str) -> Any:
    """Return the predictions at the positions of IDS, which virtual tokens stand before where a method has them."""
    import torch

    more = {"decoder_input_ids": torch.tensor([[0, 7, 20]])} if kind == "seq2seq" else {}
    ids = torch.tensor([[*virtual_of(model), *IDS]])
    with torch.no_grad():
        found = model.eval()(input_ids=ids, **more).logits
    return found if kind == "seq2seq" else found[:, -len(IDS) :]


def candidate(case: str, kind: str) -> dict[str, Any]:
    """What a recipe says of a case on an architecture."""
    return {**CASES[case], **BY_KIND.get((case, kind), {})}

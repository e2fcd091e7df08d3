"""What the selective methods share: a subset of the base's own weights learns, and only that is written.

peft has no format for this. Ours looks alike: adapter_config.json with ``"tunesmith_type": "delta"`` and the names of
the weights, and adapter_model.safetensors, which holds either a weight as a whole, under its own name, or single
entries of it: ``NAME.index``, their places in the flattened weight, and ``NAME.values``. Both are the new values and
not differences, in float32, so that they fit the base in any number format.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

TYPE = "delta"
RATES = {
    "causal": ((3e8, 4e-4), (2e9, 1.5e-4), (float("inf"), 8e-5)),
    "seq2seq": ((1e8, 5e-4), (1e9, 1e-4), (float("inf"), 5e-5)),
}
"""What `learning_rate: auto` means: (largest number of base parameters, rate), by architecture.

Eight times those of full tuning for causal models, since a part has to bring all of the change; for T5 the same. Of the
rates that benchmarks/rates.py tried on SmolLM2-135M it has the lowest validation loss for two layers, for a sparse mask
and for the embedding, and for the values of attention one within a hundredth of the lowest. For larger models it is a
choice.
"""


def weights_by_name(model: Any) -> dict[str, Any]:
    """Return every weight of a model by name, one that is used twice under each of its names."""
    return dict(model.named_parameters(remove_duplicate=False))


def size(weights: Mapping[str, Any]) -> int:
    """Return how many numbers weights hold, tied ones once."""
    return sum({id(weight): weight.numel() for weight in weights.values()}.values())


def attach(model: Any, chosen: Mapping[str, Any]) -> Any:
    """Freeze a model but for the weights that were chosen, which learn in float32 whatever the model is kept in.

    Args:
        model: transformers model.
        chosen: Name -> None: all of the weight; or (k,) int64: the entries that learn, in the flattened weight.
    """
    from tunesmith.methods.learned import learn

    weights = weights_by_name(model)
    once = {id(weights[name]): (name, index) for name, index in chosen.items()}
    model.requires_grad_(False)
    for name, index in once.values():
        learn(model, name, index)
    return model


def base_values(model: Any, base: Callable[[], Any]) -> dict[str, Any]:
    """Return what learns as the base has it."""
    from tunesmith.methods.learned import beneath

    return beneath(model, base)


def save(model: Any, folder: Path) -> None:
    """Write what was learned, and nothing of the rest of the base."""
    from safetensors.torch import save_file
    from torch import iinfo, int32, int64

    from tunesmith.methods.learned import learned

    tensors = {}
    found = learned(model)
    for name, part in found.items():
        values = part.values.detach().contiguous()
        if part.index is None:
            tensors[name] = values
        else:
            small = int(part.index.max()) <= iinfo(int32).max
            tensors |= {f"{name}.index": part.index.to(int32 if small else int64), f"{name}.values": values}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"tunesmith_type": TYPE, "weights": list(found)}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def load(model: Any, folder: Path) -> Any:
    """Put what was learned into the weights of a base, and return it: a plain transformers model.

    Raises:
        ValueError: The base has no such weight, or one of another shape.
    """
    import torch
    from safetensors.torch import load_file

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("tunesmith_type") != TYPE:
        raise ValueError("its adapter_config.json is not that of a selective method.")
    tensors = load_file(folder / "adapter_model.safetensors")
    weights = weights_by_name(model)
    with torch.no_grad():
        for name in config["weights"]:
            whole, index = tensors.get(name), tensors.get(f"{name}.index")
            if name not in weights:
                raise ValueError(f"the base has no weight {name}.")
            if whole is not None and whole.shape != weights[name].shape:
                raise ValueError(f"{name} is {_shape(whole)} in the adapter, and {_shape(weights[name])} in the base.")
            if whole is not None:
                weights[name].copy_(whole)
            elif index is None or int(index.max()) >= weights[name].numel():
                raise ValueError(f"{name}: the adapter names entries that the base does not have.")
            else:
                values, places = tensors[f"{name}.values"].to(weights[name]), index.to(weights[name].device)
                weights[name].view(-1)[places.long()] = values
    return model


def merge(model: Any) -> Any:
    """Return the plain transformers model: what was learned takes the place of the frozen weights."""
    from tunesmith.methods.learned import settle

    settle(model)
    return model


def _shape(tensor: Any) -> str:
    return " x ".join(map(str, tensor.shape))

"""The parts of a model that a method can choose among, whatever the architecture calls them."""

from typing import Any

from tunesmith.progress import say


def layers(model: Any) -> dict[str, Any]:
    """Return name -> layer, in the order in which data pass them: an encoder's before the decoder's.

    Llama and its kin have ``model.layers.N``, T5 has ``encoder.block.N`` and then ``decoder.block.N``.
    """
    from torch.nn import ModuleList

    stacks: dict[str, Any] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in stacks)
        if isinstance(module, ModuleList) and not inside and next(module.parameters(), None) is not None:
            stacks[name] = module
    return {f"{name}.{number}": layer for name, stack in stacks.items() for number, layer in enumerate(stack)}


def norms(model: Any) -> dict[str, Any]:
    """Return name -> module of every LayerNorm and RMSNorm, by whatever name its class goes."""
    found = dict(model.named_modules()).items()
    return {name: one for name, one in found if "norm" in type(one).__name__.lower() and not list(one.children())}


def weights_of(parts: dict[str, Any]) -> dict[str, Any]:
    """Return the weights of modules by their full names.

    Args:
        parts: Full name of a module -> the module.
    """
    return {
        f"{name}.{own}": weight
        for name, module in parts.items()
        for own, weight in module.named_parameters(remove_duplicate=False)
    }


def name_of(model: Any, module: Any) -> str:
    """Return the full name of a module."""
    names: dict[Any, str] = {one: name for name, one in model.named_modules()}
    return names[module]


def tied(model: Any) -> bool:
    """Tell whether the input embedding and the output head of a model are one matrix."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def say_tied(method: str) -> None:
    """Say what it means to train one of two that are one."""
    say(
        f"{method}: input embedding and output head of this model are one matrix (tied). Both change with it, and it "
        "is counted and saved once."
    )

"""Which other programs can load an adapter as it is, and why not.

What is known here was read in the programs' own sources and pages in November 2026: vLLM's ``lora/peft_helper.py`` and
``config/lora.py``, LoRAX's ``adapters/lora.py`` and its page on LoRA, llama.cpp's ``convert_lora_to_gguf.py``, and the
installed transformers and peft. Nothing is loaded and no weight is read, only names and sizes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.errors import RecipeError, UsageError, did_you_mean
from tunesmith.exporting.sources import Source
from tunesmith.models.catalog import HUB_ID, read_json_object
from tunesmith.models.load import check_adapter, explained
from tunesmith.registry import METHODS, resolve


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides whether an adapter can be loaded."""

    kind: str  # peft's name of the method; ours in lower case where the format is our own; "" = a whole model
    config: Mapping[str, Any]  # adapter_config.json, or config.json of a whole model
    shapes: Mapping[str, tuple[int, ...]]  # of every tensor
    method: str = ""  # as the recipe names it; "" = it is not one of tunesmith's

    @property
    def encoder_decoder(self) -> bool:
        """Whether the base is one."""
        if not self.kind:
            return bool(self.config.get("is_encoder_decoder"))
        return self.config.get("task_type") == "SEQ_2_SEQ_LM" or any(".encoder." in f".{name}" for name in self.shapes)

    @property
    def rank(self) -> int:
        """The highest of all layers."""
        return max((shape[0] for name, shape in self.shapes.items() if ".lora_A." in name), default=0)

    @property
    def targets(self) -> list[str]:
        """Last names of the layers that have a correction."""
        return sorted({name.split(".lora_")[0].rpartition(".")[2] for name in self.shapes if ".lora_" in name})

    @property
    def strange(self) -> list[str]:
        """Tensors that are no part of a plain LoRA, DoRA's lengths left out."""
        parts = (".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector", ".lora_magnitude_vector.weight")
        return [name for name in self.shapes if not name.endswith(parts)]


@dataclass(slots=True)
class Verdict:
    """Whether a program can load an adapter."""

    consumer: str
    reasons: list[str] = field(default_factory=list)  # why not; empty = it can
    notes: list[str] = field(default_factory=list)  # what to mind

    @property
    def loads(self) -> bool:
        """Whether it can."""
        return not self.reasons


def facts_of(source: Source) -> Facts:
    """Read what an adapter says of itself, and the names and sizes of its tensors.

    Raises:
        RecipeError: It is not complete, or damaged.
        RefusedError: Its weights are pickled.
    """
    from safetensors import safe_open

    if not (source.folder / "adapter_config.json").is_file():
        return Facts("", read_json_object(source.folder / "config.json"), {})
    config = check_adapter(source.folder)
    with explained(source.folder), safe_open(source.folder / "adapter_model.safetensors", "np") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    kind = str(config.get("peft_type") or config.get("tunesmith_type") or "")
    if not kind:
        raise RecipeError(f"{source.folder}: adapter_config.json names no peft_type. Is it an adapter?")
    return Facts(kind, config, shapes, source.card.method if source.card else "")


def check(source: Source, consumer: str) -> Verdict:
    """Tell whether a program can load an adapter.

    Args:
        source: From ``find_adapters``.
        consumer: A name of ``CONSUMERS``.

    Raises:
        UsageError: There is no such name.
    """
    if consumer not in CONSUMERS:
        raise UsageError(
            f'--check: "{consumer}" is not known.{did_you_mean(consumer, list(CONSUMERS))} Known: '
            f"{', '.join(CONSUMERS)}."
        )
    found, facts = Verdict(consumer), facts_of(source)
    if not facts.kind:
        _whole_model(facts, found)
    elif "peft_type" not in facts.config:
        found.reasons.append(
            f"it is in tunesmith's own format for {facts.method or facts.kind}, because "
            f"{OWN_FORMAT.get(facts.kind, 'peft has none for it')}.{_mend(facts, found)}"
        )
    else:
        CONSUMERS[consumer](facts, found)
        if found.loads and facts.method == "qlora":
            found.notes.append(
                "it learned beside a base in four bits (NF4): load the base so there too, or merge it. Beside the base "
                "as it was it answers otherwise."
            )
    if facts.kind and found.loads and not HUB_ID.match(str(facts.config.get("base_model_name_or_path") or "")):
        found.notes.append("its base is no model of the hub: name it yourself where you load the adapter.")
    return found


OWN_FORMAT = {
    "prefix": "peft's gives several layers of an encoder-decoder the same",
    "soft-prompt": "peft's has one prompt alone, at the start of the input",
}
"""Kind of adapter that peft has a format for as well -> why it is not in that."""


def _mend(facts: Facts, found: Verdict) -> str:
    """Return the advice to merge, where that can be done and the program loads what comes of it."""
    can = bool(facts.method) and hasattr(resolve("method", facts.method, METHODS), "merge")
    return " Merge it." if can and not (found.consumer == "vllm" and facts.encoder_decoder) else ""


def _whole_model(facts: Facts, found: Verdict) -> None:
    if found.consumer == "vllm" and facts.encoder_decoder:
        found.reasons.append(f"it is a whole model, {VLLM_TEXT}")
    elif found.consumer == "peft":
        found.reasons.append("it is a whole model, not an adapter: load it with transformers.")
    elif found.consumer == "llamacpp":
        found.notes.append("it is a whole model, not an adapter: convert_hf_to_gguf.py turns it into a GGUF file.")
    else:
        found.notes.append("it is a whole model, not an adapter: it is loaded as one, if its architecture is known.")


PROMPTS = {"PROMPT_TUNING": "a soft prompt", "P_TUNING": "a p-tuned prompt", "PREFIX_TUNING": "a prefix"}


def _peft(facts: Facts, found: Verdict) -> None:
    from peft import PeftType

    if facts.kind not in [one.value for one in PeftType]:
        found.reasons.append(f"the installed peft knows no {facts.kind}.")
    if facts.kind in PROMPTS:
        found.notes.append("peft puts its virtual tokens before the prompt by itself: write the prompt without them.")


def _transformers(facts: Facts, found: Verdict) -> None:
    _peft(facts, found)
    found.notes.clear()
    if facts.kind in PROMPTS:
        found.reasons.append(
            f"model.load_adapter takes what changes layers, and {PROMPTS[facts.kind]} changes none. Load it with peft."
        )
    if facts.config.get("use_dora"):
        found.reasons.append(
            "it is a DoRA, whose lengths model.load_adapter does not find: it would take those of the base, and say "
            "nothing. Load it with peft, or merge it."
        )


def _only_lora(facts: Facts, found: Verdict, why: str) -> bool:
    if facts.kind != "LORA":
        found.reasons.append(f"it is {PROMPTS.get(facts.kind, facts.kind)}, and {why}{_mend(facts, found)}")
    return facts.kind == "LORA"


def _plain_lora(facts: Facts, found: Verdict) -> None:
    """Refuse what all three servers refuse or would leave out."""
    if facts.config.get("use_dora"):
        found.reasons.append("it is a DoRA, whose lengths it does not read. Merge it, or train without dora.")
    if facts.config.get("bias") not in (None, "none") or facts.config.get("lora_bias"):
        found.reasons.append("it has biases of its own, which it does not read.")
    if modules := facts.config.get("modules_to_save"):
        found.reasons.append(f"it holds whole layers ({', '.join(modules)}: modules_to_save), which it does not take.")
    elif facts.strange:
        more = f" and {len(facts.strange) - 1} more" if len(facts.strange) > 1 else ""
        found.reasons.append(f"it holds {facts.strange[0]}{more}, which is no part of a LoRA.")


VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
VLLM_USUAL = 16
VLLM_TEXT = "an encoder-decoder of text, which vLLM has not had since 0.11."
VLLM_LAYERS = {
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head", "qkv_proj", "gate_up_proj",
}  # fmt: skip
"""Names of models of Llama's kind, which have LoRA there."""
VLLM_VARIANTS = ("alora_invocation_tokens", "layer_replication", "use_bdlora", "use_qalora", "target_parameters")


def _vllm(facts: Facts, found: Verdict) -> None:
    if not _only_lora(facts, found, "vLLM serves LoRA alone (it had soft prompts until 0.9)."):
        return
    _plain_lora(facts, found)
    if facts.encoder_decoder:
        found.reasons.append(f"its base is {VLLM_TEXT}")
    if facts.rank > VLLM_RANKS[-1]:
        found.reasons.append(f"its rank is {facts.rank}, and vLLM takes at most {VLLM_RANKS[-1]}.")
    elif facts.rank > VLLM_USUAL:
        least = next(rank for rank in VLLM_RANKS if rank >= facts.rank)
        found.notes.append(
            f"its rank is {facts.rank}: start vLLM with --max-lora-rank {least}, it is {VLLM_USUAL} else."
        )
    if facts.config.get("init_lora_weights") not in (None, True, False, "gaussian", "eva", "orthogonal"):
        found.reasons.append(
            f"its init_lora_weights is {facts.config['init_lora_weights']}, which changed the base. Save it as a plain "
            "LoRA."
        )
    if odd := [name for name in VLLM_VARIANTS if facts.config.get(name)]:
        found.reasons.append(f"it has {', '.join(odd)}, a variant that vLLM does not know.")
    if facts.config.get("rank_pattern") or facts.config.get("alpha_pattern"):
        found.notes.append("it has ranks or scales by layer, which only newer versions of vLLM read.")
    if other := [name for name in facts.targets if name not in VLLM_LAYERS]:
        found.notes.append(
            f"it corrects {', '.join(other)}: look in vLLM's list of models whether that architecture has LoRA, some "
            "have not."
        )


LORAX_TARGETS = (
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head", "qkv_proj", "gate_up_proj",
    "dense", "fc1", "fc2", "c_attn", "c_proj", "c_fc", "w1", "w2", "Wqkv", "out_proj", "query_key_value",
    "dense_h_to_4h", "dense_4h_to_h",
)  # fmt: skip
LORAX_FAST = 128  # rank


def _lorax(facts: Facts, found: Verdict) -> None:
    if not _only_lora(facts, found, "LoRAX serves LoRA and Medusa alone."):
        return
    _plain_lora(facts, found)
    if facts.encoder_decoder:
        found.reasons.append("its base is an encoder-decoder, and LoRAX has LoRA for causal models alone.")
    elif left_out := [name for name in facts.targets if name not in LORAX_TARGETS]:
        found.reasons.append(f"it corrects {', '.join(left_out)}, which LoRAX would leave out with a warning.")
    if facts.config.get("rank_pattern") or facts.config.get("alpha_pattern"):
        found.reasons.append("it has ranks or scales by layer, and LoRAX reads one for all.")
    if facts.config.get("layers_to_transform") is not None:
        found.reasons.append("it corrects some of the layers, and LoRAX drops a kind of layer that is not in all.")
    if facts.rank > LORAX_FAST:
        found.notes.append(f"its rank is {facts.rank}: above {LORAX_FAST} LoRAX answers one adapter after the other.")


def _llamacpp(facts: Facts, found: Verdict) -> None:
    if not _only_lora(facts, found, "llama.cpp loads LoRA alone."):
        return
    _plain_lora(facts, found)
    if facts.config.get("use_rslora"):
        found.reasons.append(
            "it is scaled by alpha / sqrt(rank), and llama.cpp scales by alpha / rank. Merge it, or train without "
            "rslora."
        )
    if facts.config.get("alpha_pattern"):
        found.reasons.append("it has scales by layer, and llama.cpp reads one for all.")
    if found.loads:
        found.notes.append(
            "convert_lora_to_gguf.py --base FOLDER turns it into a GGUF file; FOLDER has the base's config.json."
        )
    if found.loads and "lm_head" in facts.targets:
        found.notes.append("it corrects lm_head, which is refused where the base shares it with its embedding.")


CONSUMERS: dict[str, Callable[[Facts, Verdict], None]] = {
    "vllm": _vllm,
    "lorax": _lorax,
    "llamacpp": _llamacpp,
    "transformers": _transformers,
    "peft": _peft,
}
"""Name of a program -> what finds out why it cannot load an adapter in peft's format."""


def as_plain(found: Sequence[tuple[Source, Verdict]]) -> dict[str, Any]:
    """Return verdicts for ``--json``."""
    return {
        "checked": [
            {"folder": str(source.folder), "consumer": one.consumer, "loads": one.loads, "reasons": one.reasons,
             "notes": one.notes}
            for source, one in found
        ]
    }  # fmt: skip

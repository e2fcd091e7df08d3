"""One candidate's answers to a set of examples."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from safetensors import SafetensorError

from tunesmith.data.encode import Coder, encode_prompts
from tunesmith.environment import quiet_peft
from tunesmith.errors import RecipeError
from tunesmith.inference.few_shot import choose_shots, with_shots
from tunesmith.inference.generate import generate
from tunesmith.inference.rank import rank_all
from tunesmith.machine import fastest_dtype, let_go, peak_memory, reset_peak
from tunesmith.models.load import Loaded, check_adapter, load
from tunesmith.models.sizes import forward_flops, shape_of
from tunesmith.progress import track
from tunesmith.recipe import train_settings
from tunesmith.records import EncodingHealth, Example, Prediction, PredictResult
from tunesmith.registry import METHODS, resolve
from tunesmith.settings import Recipe, TaskSettings
from tunesmith.wording import first_line

NO_LIMIT = 4096  # tokens of a prompt for architectures that set no limit of their own


@dataclass(frozen=True, slots=True)
class Answers:
    """Predictions by task, and what they cost."""

    predictions: dict[str, list[Prediction]]
    result: PredictResult


def load_candidate(recipe: Recipe, name: str, *, model: Path, adapter: Path) -> Loaded:
    """Load what a candidate answers with: the base, the tuned model, or the base with its adapter merged in.

    Args:
        recipe: Names method and precision.
        name: Of the candidate.
        model: Folder of the base.
        adapter: Folder that training wrote; not read for the base itself.
    """
    let_go()
    reset_peak()  # here and not in ``answer``, which also serves a training whose own peak is being measured
    settings = train_settings(recipe, name)
    half = settings.precision == "bfloat16" or (settings.precision == "auto" and fastest_dtype() == torch.bfloat16)
    dtype = torch.bfloat16 if half else torch.float32
    candidate = recipe.candidates[name]
    if candidate.method == "none":
        return load(model, dtype=dtype)
    return load_tuned(candidate.method, model, adapter, dtype=dtype)


def load_tuned(method_name: str, model: Path, adapter: Path, *, dtype: torch.dtype) -> Loaded:
    """Load a tuned model ready to answer; an adapter is merged into a base of its own where its method can.

    A quantised base stays so, with its adapter beside it: merged it would take the memory that quantising saves.
    """
    method = resolve("method", method_name, METHODS)
    if method.ON_DISK == "model":
        return load(adapter, dtype=dtype)
    loaded = load_beside(method, model, adapter, dtype=dtype)
    if not hasattr(method, "merge") or getattr(method, "QUANTIZE", False):
        return loaded
    with fitting(adapter, model), quiet_peft():
        return replace(loaded, model=method.merge(loaded.model).eval())


def load_beside(method: Any, model: Path, adapter: Path, *, dtype: torch.dtype) -> Loaded:
    """Load a base with an adapter beside it, not merged.

    Args:
        method: Module of the method.
        model: Folder of the base.
        adapter: Folder that training wrote.
        dtype: Of the base; of what is computed, where the base is quantised.
    """
    check_adapter(adapter)
    base = load(model, dtype=dtype, quantize=getattr(method, "QUANTIZE", False))
    with fitting(adapter, model), quiet_peft():
        return replace(base, model=method.load(base.model, adapter).eval())


@contextmanager
def fitting(adapter: Path, model: Path) -> Iterator[None]:
    """Turn what goes wrong in putting an adapter onto a base into a message that names both.

    Raises:
        RecipeError: They do not fit each other.
    """
    try:
        yield
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"{adapter}: this adapter does not fit the base model in {model}: {first_line(error)} "
            "Name the base that it was trained on, or train it again."
        ) from None


def answer(
    recipe: Recipe, name: str, loaded: Loaded, *, examples: Sequence[Example], training: Sequence[Example]
) -> Answers:
    """Answer every example of every task with one candidate.

    Args:
        recipe: Tasks, generation settings, seed.
        name: Of the candidate; decides the number of shots.
        loaded: What ``load_candidate`` returned.
        examples: To be answered.
        training: Where shots are taken from.
    """
    start = monotonic()
    found: dict[str, list[Prediction]] = {}
    parts: list[EncodingHealth] = []
    fitting: Counter[str] = Counter()
    for task in recipe.tasks:
        own = [example for example in examples if example.task == task.name]
        if own:
            predictions, encoding = answer_task(recipe, name, loaded, task=task, examples=own, training=training)
            found[task.name] = predictions
            parts.append(encoding)
            fitting.update(str(prediction.shots) for prediction in predictions)
    everything = [prediction for predictions in found.values() for prediction in predictions]
    asked = recipe.candidates[name].shots
    lengths = [(prediction.prompt_tokens, prediction.new_tokens) for prediction in everything]
    result = PredictResult(
        seconds=round(monotonic() - start, 2),
        peak_bytes=peak_memory(),
        prompts=len({(example.task, example.prompt, example.history) for example in examples}),
        prompt_tokens=sum(prediction.prompt_tokens for prediction in everything),
        new_tokens=sum(prediction.new_tokens for prediction in everything),
        answers=len(everything),
        flops=forward_flops(shape_of(loaded.folder, loaded.model.config), lengths),
        shots_asked=asked,
        shots_fitting=dict(fitting) if asked else {},
        encoding=EncodingHealth(
            limit=min((part.limit for part in parts), default=0),
            cut=tuple(cut for part in parts for cut in part.cut),
            too_long=(),
            prompt_tokens=sum(part.prompt_tokens for part in parts),
            target_tokens=0,
        ),
    )
    return Answers(found, result)


def answer_task(
    recipe: Recipe, name: str, loaded: Loaded, *, task: TaskSettings, examples: Sequence[Example],
    training: Sequence[Example],
) -> tuple[list[Prediction], EncodingHealth]:  # fmt: skip
    """Answer the examples of one task."""
    shots = recipe.candidates[name].shots
    coder = Coder(loaded.tokenizer, loaded.kind, room(recipe, name, loaded, task), loaded.virtual)
    alike = [example for example in training if example.form == examples[0].form]  # no inverted ones, for instance
    chosen = choose_shots(alike, task=task.name, shots=shots, seed=recipe.seed) if shots else []
    asked = [with_shots(example, chosen, coder) for example in examples]
    prompts, encoding = encode_prompts([example for example, _ in asked], coder)
    if examples[0].choices:
        predictions = _ranked(loaded, examples, prompts, coder, name=name)
    else:
        predictions = _generated(recipe, loaded, task, examples, prompts, name=name)
    used = [count for _, count in asked]
    return [p.model_copy(update={"shots": n}) for p, n in zip(predictions, used, strict=True)], encoding


def room(recipe: Recipe, name: str, loaded: Loaded, task: TaskSettings) -> int:
    """Return how many tokens a prompt may have.

    A prompt without shots is cut where training cut it, so that all candidates read the same; shots may fill the
    model's context.

    Raises:
        RecipeError: The context has no room for a prompt and the answer.
    """
    free = context_room(loaded, task)
    same = train_settings(recipe, name).max_tokens + loaded.virtual_tokens
    return free if recipe.candidates[name].shots else min(free, same)


def context_room(loaded: Loaded, task: TaskSettings) -> int:
    """Return how many tokens of prompt the model's context has beside the longest answer.

    Raises:
        RecipeError: It has none.
    """
    context = loaded.context or NO_LIMIT
    free = context - (task.max_new_tokens if loaded.kind == "causal" else 0)
    if free < 1:
        raise RecipeError(
            f"tasks.{task.name}.max_new_tokens: {task.max_new_tokens} leaves no room for a prompt, the model's context "
            f"is {context} tokens. Lower it."
        )
    return free


def _generated(
    recipe: Recipe, loaded: Loaded, task: TaskSettings, examples: Sequence[Example], prompts: list[list[int]], *,
    name: str,
) -> list[Prediction]:  # fmt: skip
    distinct = len({tuple(prompt) for prompt in prompts})
    with track(f"{name} answers {task.name}", distinct) as show:
        answers = generate(
            loaded, prompts, settings=recipe.generate, max_new_tokens=task.max_new_tokens, seed=recipe.seed, show=show
        )
    return [
        Prediction(
            example_id=example.id, text=found.text(loaded), prompt_tokens=len(prompt), new_tokens=len(found.ids),
            finish=found.finish,
        )
        for example, prompt, found in zip(examples, prompts, answers, strict=True)
    ]  # fmt: skip


def _ranked(
    loaded: Loaded, examples: Sequence[Example], prompts: list[list[int]], coder: Coder, *, name: str
) -> list[Prediction]:
    with track(f"{name} ranks choices", len(examples)) as show:
        return choose(loaded, examples, prompts, coder, show=show)


def choose(
    loaded: Loaded, examples: Sequence[Example], prompts: Sequence[Sequence[int]], coder: Coder, *,
    show: Callable[[float, str], None],
) -> list[Prediction]:  # fmt: skip
    """Return for each example the choice of highest likelihood."""
    choices = [
        [coder.target(example.model_copy(update={"target": choice})) for choice in example.choices]
        for example in examples
    ]
    found = rank_all(loaded, prompts, choices, show=show)
    return [
        Prediction(
            example_id=example.id,
            text=example.choices[max(range(len(logprobs)), key=logprobs.__getitem__)],
            prompt_tokens=len(prompt),
            new_tokens=0,
            finish="choice",
            choice_logprobs=dict(zip(example.choices, logprobs, strict=True)),
        )
        for example, prompt, logprobs in zip(examples, prompts, found, strict=True)
    ]

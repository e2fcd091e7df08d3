"""What answering takes: prompts read, tokens written, choices ranked."""

from collections.abc import Sequence
from dataclasses import replace

from tunesmith.data.encode import Coder
from tunesmith.inference.answer import room
from tunesmith.inference.decode import rooms_for, slots_for
from tunesmith.inference.generate import batches_of, writes_itself
from tunesmith.machine import compute_device
from tunesmith.models.fused.packing import takes_fused
from tunesmith.plan_records import StagePlan
from tunesmith.planning.calibration import Calibration
from tunesmith.planning.fitting import dot
from tunesmith.planning.ground import Ground
from tunesmith.planning.lengths import Counted, Prompts, asked_prompts
from tunesmith.planning.memory import answering_memory, while_loading
from tunesmith.planning.work import Writing, decoding, padded_writing, writing_work
from tunesmith.records import Split
from tunesmith.registry import METHODS, resolve
from tunesmith.settings import TaskSettings


def answer_stage(ground: Ground, name: str, found: Calibration, *, split: Split) -> StagePlan:
    """Plan the answers of one candidate to all tasks.

    A tuned model is taken to write answers as long as the targets; the base writes on for as long as it may.
    """
    writings: list[Writing] = []
    for task in ground.recipe.tasks:
        own = [one for one in ground.counted[split] if one.task == task.name]
        if own:
            writings += task_writings(ground, name, task, own)
    if not writings:
        return StagePlan(seconds=0.0, parts={"program": found.program}, peak=found.program, moment="")
    method = ground.recipe.candidates[name].method
    tuned = method != "none" and resolve("method", method, METHODS).ON_DISK == "model"
    parts = answering_memory(found, ground.shape, writings)
    parts, moment = while_loading(parts, "the longest prompts", ground.stored(tuned=tuned))
    seconds = sum(dot(writing_work(ground.shape, one), found.seconds) for one in writings)
    return StagePlan(
        seconds=round(seconds, 2),
        parts=parts,
        peak=sum(parts.values()),
        moment=moment,
        largest=max(one.cached for one in writings),
        tokens=sum(sum(one.read) + one.written for one in writings),
    )


def task_writings(ground: Ground, name: str, task: TaskSettings, counted: Sequence[Counted]) -> list[Writing]:
    """Return the work of one task, in the batches in which it is done."""
    limit = room(ground.recipe, name, ground.loaded, task)
    seen = _asked(ground, name, limit, task)
    if counted[0].choices:
        return [_ranking(ground, min(round(one.prompt * seen.longer), limit), one.choices) for one in counted]
    tuned = ground.recipe.candidates[name].method != "none"
    distinct = {one.text: one for one in counted}.values()
    asked = sorted(
        ((min(round(one.prompt * seen.longer), limit), min(one.target, task.max_new_tokens)) for one in distinct),
        reverse=True,
    )
    prompts = [prompt for prompt, _ in asked]
    new = [target if tuned else task.max_new_tokens for _, target in asked]
    generate = ground.recipe.generate
    if writes_itself(ground.loaded, generate):
        rooms = rooms_for(prompts, [task.max_new_tokens] * len(prompts))
        alike = ground.shape.kind == "seq2seq" or not takes_fused(ground.loaded.model)
        shared = min(seen.shared, min(prompts) - 1)
        kept_once = 0 if alike or compute_device().type != "cpu" else shared
        slots = slots_for(rooms, generate.tokens_per_batch, alike=alike, shared=kept_once)
        return [decoding(prompts, new, slots=slots, kind=ground.shape.kind, shared=shared, kept_once=kept_once)]
    sizes = [
        len(batch) for batch in batches_of(
            [(0,) * prompt for prompt in prompts], generate.tokens_per_batch // generate.beams, task.max_new_tokens
        )
    ]  # fmt: skip
    writings, at = [], 0
    for size in sizes:
        repeated = [value for value in prompts[at : at + size] for _ in range(generate.beams)]
        longest = [max(new[at : at + size])] * len(repeated)
        writings.append(padded_writing(repeated, longest, ground.shape.kind))
        at += size
    return writings


def _asked(ground: Ground, name: str, limit: int, task: TaskSettings) -> Prompts:
    """Return how the prompts of a task are when a candidate is asked."""
    recipe, loaded = ground.recipe, ground.loaded
    own = [one for one in ground.examples["test"] if one.task == task.name]
    shots, shares = recipe.candidates[name].shots, loaded.kind == "causal" and not (own and own[0].choices)
    if not shots and not shares:  # nothing makes them longer, and nobody asks what they begin with
        return Prompts()
    coder = Coder(loaded.tokenizer, loaded.kind, limit)
    found = asked_prompts(own, ground.examples["train"], coder, shots=shots, seed=recipe.seed)
    return found if shares else replace(found, shared=0)


def _ranking(ground: Ground, prompt: int, choices: Sequence[int]) -> Writing:
    """Return the work of ``inference.rank``: the prompt once, then all choices side by side."""
    rows, width = len(choices), max(choices)
    first = (prompt,) if ground.shape.kind == "causal" else (prompt, 0)
    last = rows * width * (prompt + width)
    pairs = (prompt * prompt + last,) if ground.shape.kind == "causal" else (prompt * prompt, last)
    return Writing(first, pairs, 2, rows * width, rows, rows, rows * (prompt + width), prompt)

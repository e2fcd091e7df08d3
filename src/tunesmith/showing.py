"""Rendered examples as the model will see them, token by token."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from tunesmith.data.encode import Coder, encode_training
from tunesmith.data.mixture import held_out
from tunesmith.models.load import load_tokenizer
from tunesmith.opening import Run, base_model
from tunesmith.pipeline import mixtures_of, prepare_data
from tunesmith.records import Example
from tunesmith.reporting.lines import print_mixtures
from tunesmith.steps import examples


def show_examples(job: Run, count: int, console: Console) -> None:
    """Print the first training examples of every task that is not held out.

    What the loss counts stands out; without colours it is between ⟦ and ⟧.
    """
    job = prepare_data(job)
    print_mixtures(mixtures_of(job), console)
    tokenizer, kind = load_tokenizer(base_model(job))
    out = held_out(job.recipe.tasks, job.recipe.mixture)
    found = _of_every_task([one for one in examples(job, "train") if one.task not in out])[:count]
    encoded, health = encode_training(found, Coder(tokenizer, kind, job.recipe.train.max_tokens))
    for item in encoded:
        given = item.input_ids[: len(item.input_ids) - (len(item.target_ids) if item.trains else 0)]
        title = f"{item.example_id}: {len(given)} + {len(item.target_ids)} tokens"
        console.rule(title) if console.is_terminal else console.print(title)
        target = tokenizer.decode(list(item.target_ids))
        shown = Text(target, style="black on green") if console.color_system else Text(f"⟦{target}⟧")
        console.print(Text(tokenizer.decode(list(given))), shown, sep="", soft_wrap=True)
    for cut in health.cut:
        console.print(f"{cut.example_id}: its prompt was cut from {cut.tokens_before} to {cut.tokens_after} tokens")
    for name in health.too_long:
        console.print(f"{name}: its target does not fit beside its prompt into {health.limit} tokens; it is left out")


def _of_every_task(found: Sequence[Example]) -> list[Example]:
    """Return the first example of each task, then the second of each, and so on."""
    seen: Counter[str] = Counter()
    places = []
    for example in found:
        places.append(seen[example.task])
        seen[example.task] += 1
    return [found[number] for number in sorted(range(len(found)), key=places.__getitem__)]

"""One candidate from base model to adapter on disk."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunesmith import __version__
from tunesmith.cards import CARD
from tunesmith.data.encode import Coder, Encoded
from tunesmith.data.replay import TASK as GENERAL
from tunesmith.data.templates import instruction, load_template
from tunesmith.errors import UserError
from tunesmith.machine import fastest_dtype, let_go, peak_memory, reset_peak
from tunesmith.mixtures import mixture_settings
from tunesmith.models.catalog import fingerprint, public_name
from tunesmith.models.load import Loaded, load
from tunesmith.progress import say
from tunesmith.recipe import resolved, train_settings
from tunesmith.records import AdapterCard, EncodingHealth, Example, TrainResult
from tunesmith.registry import METHODS, resolve
from tunesmith.rundir import CandidateDir, publish, write_record
from tunesmith.settings import Recipe, TrainSettings
from tunesmith.training.averaging import average
from tunesmith.training.checkpoint import damage, full_disk_explained, read_checkpoint, write_checkpoint
from tunesmith.training.computing import answering
from tunesmith.training.examples import training_examples, validation_examples
from tunesmith.training.job import Job, Progress, load_trainable, own_memory
from tunesmith.training.job import trainable as trainable_weights
from tunesmith.training.loop import train
from tunesmith.training.nearest import nearest_tokens
from tunesmith.training.optimizer import auto_rate
from tunesmith.training.preparing import Losses, attach_prepared
from tunesmith.training.teacher import make_teacher, read_by


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What every candidate of a run is made from."""

    recipe: Recipe
    model: Path  # folder of the base
    train: Sequence[Example]
    validation: Sequence[Example]
    start: Path | None = None  # what was learned on the tasks before, in a sequence; None: the base as it is
    keep: bool = False  # whether another task comes after these


def tune(
    given: Ingredients, name: str, where: CandidateDir, *, score: Callable[[Loaded], float] | None = None
) -> TrainResult:
    """Train one candidate and write its adapter folder; goes on from a checkpoint if there is one.

    Args:
        given: Recipe, base model, examples.
        name: Of the candidate.
        where: Its folder.
        score: A generated metric on validation examples, wanted when ``keep_best`` is not the loss.
    """
    candidate = given.recipe.candidates[name]
    method = resolve("method", candidate.method, METHODS)
    let_go()
    reset_peak()
    made = make_ready(given, name, where, score=score)
    progress = train(made.job)
    averaged = average(made.job, method, base=lambda: load(given.model).model)
    write_adapter(given, name, made.job.model, made.loaded, where)
    keep_for_the_next(given, made.job.model, where)
    result = TrainResult(
        method=candidate.method,
        trainable=made.trainable,
        total=made.total,
        peak_bytes=peak_memory(),
        adapter_bytes=sum(path.stat().st_size for path in where.adapter.iterdir()),
        learning_rate=made.job.rate,
        precision="bfloat16" if made.half else "float32",
        encoding=made.encoding,
        replayed=made.replayed,
        averaged=averaged,
        **reached(progress, made.job.settings),
    )
    write_record(where.train_result, result)
    shutil.rmtree(where.checkpoints, ignore_errors=True)
    return result


@dataclass(frozen=True, slots=True)
class Ready:
    """All that training needs, and what its record says of it."""

    job: Job
    loaded: Loaded
    trainable: int  # parameters
    total: int
    half: bool  # bfloat16
    encoding: EncodingHealth
    replayed: int  # general instructions in an epoch


def make_ready(given: Ingredients, name: str, where: CandidateDir, *, score: Callable[[Loaded], float] | None) -> Ready:
    """Load the base, attach the method to it, and encode the examples."""
    check_start(given.start)
    recipe, candidate, settings = given.recipe, given.recipe.candidates[name], train_settings(given.recipe, name)
    method = resolve("method", candidate.method, METHODS)
    half = settings.precision == "bfloat16" or (settings.precision == "auto" and fastest_dtype() == torch.bfloat16)
    frozen = method.ON_DISK == "adapter"
    torch.manual_seed(recipe.seed)
    dtype = torch.bfloat16 if half and frozen else torch.float32
    loaded = load(given.model, dtype=dtype, quantize=getattr(method, "QUANTIZE", False))
    total = loaded.model.num_parameters()
    trainable = method.count(candidate.settings, loaded.model)
    say(f"{name}: {candidate.method} trains {trainable:,} of {total:,} parameters ({100 * trainable / total:.2f} %)")
    limit = check_context(loaded, settings)
    teacher = make_teacher(loaded, weight=settings.kl, limit=limit) if settings.kl else None  # before it is changed
    looks_first = hasattr(method, "prepare")  # at examples; it has no virtual tokens that those would begin with
    model = loaded.model if looks_first else attached(recipe, name, loaded)
    coder = Coder(loaded.tokenizer, loaded.kind, check_context(loaded, settings), loaded.virtual)
    examples, encoding, draw = training_examples(recipe, name, given.train, coder)
    validation = validation_examples(recipe, name, given.validation, coder)
    teacher = read_by(teacher, coder) if teacher else None
    made_of = identity(given, name, [*examples, *validation, *(teacher.texts if teacher else ())])
    if looks_first:
        model = attach_prepared(
            method, candidate.settings, loaded, kept=where.checkpoints, identity=made_of,
            losses=Losses(loaded, [examples[place] for place in draw.epoch(0)] if draw else examples, recipe.seed),
        )  # fmt: skip
    own_memory(model)
    go_on_from(model, given.start)
    rate = settings.learning_rate
    if rate == "auto":
        rate = auto_rate(candidate.method, candidate.settings, parameters=total, kind=loaded.kind)
    job = Job(
        name, model, loaded.kind, loaded.tokenizer.pad_token_id, examples, validation, settings, rate, recipe.seed,
        half and not frozen, where.checkpoints, where.train_log, made_of, scorer(loaded, model, score),
        draw, teacher,
    )  # fmt: skip
    return Ready(job, loaded, trainable, total, half, encoding, draw.quotas.get(GENERAL, 0) if draw else 0)


def go_on_from(model: Any, start: Path | None) -> None:
    """Put into a model what was learned before, if there was something before."""
    if start:
        load_trainable(model, read_checkpoint(start).tensors["weights"])


def check_start(start: Path | None) -> None:
    """Make sure that what was learned before is there and whole.

    Raises:
        UserError: It is not.
    """
    if start and (problem := damage(start)):
        raise UserError(
            f"{start}: {problem}. It is what the next task of the sequence begins with: delete {start.parent} and run "
            "the same command again."
        )


def keep_for_the_next(given: Ingredients, model: Any, where: CandidateDir) -> None:
    """Write what was learned where the next task of a sequence begins."""
    if given.keep:
        write_checkpoint(where.root, where.learned.name, {"weights": trainable_weights(model)}, {})


def attached(recipe: Recipe, name: str, loaded: Loaded) -> Any:
    """Return the model made ready to train, with the start that its method takes from the tasks."""
    candidate = recipe.candidates[name]
    method = resolve("method", candidate.method, METHODS)
    model = method.attach(candidate.settings, loaded.model, loaded.kind)
    if hasattr(method, "begin"):
        words = {task.name: instruction(load_template(task)) for task in recipe.tasks}
        method.begin(candidate.settings, model, tokenizer=loaded.tokenizer, instructions=words)
    return model


def reached(progress: Progress, settings: TrainSettings) -> dict[str, Any]:
    """Return the fields of a TrainResult that say how far training went."""
    tail = progress.losses[-max(1, len(progress.losses) // 10) :]
    return {
        "steps": progress.step,
        "epochs": round(progress.epoch, 4),
        "tokens": progress.tokens,
        "target_tokens": progress.target_tokens,
        "seconds": round(progress.seconds, 2),
        "train_loss": sum(tail) / len(tail),
        "validation_loss": progress.best if progress.best_step and settings.keep_best == "loss" else None,
        "best_step": progress.best_step,
        "stopped": "early" if progress.stopped == "early" else "finished",
    }


def identity(given: Ingredients, name: str, encoded: Sequence[Encoded]) -> str:
    """Return a hash of what decides the weights: settings, seed, base model and token ids."""
    recipe = given.recipe
    digest = hashlib.sha256(fingerprint(given.model).encode())
    settings = [resolved(recipe)["candidates"][name], train_settings(recipe, name).model_dump(), recipe.seed]
    if mixture := mixture_settings(recipe, name):
        settings.append(mixture.model_dump())
    digest.update(json.dumps(settings, sort_keys=True).encode())
    if given.start:
        digest.update(fingerprint(given.start).encode())
    for example in encoded:
        digest.update(repr((example.example_id, example.input_ids, example.target_ids)).encode())
    return digest.hexdigest()


def scorer(loaded: Loaded, model: Any, score: Callable[[Loaded], float] | None) -> Callable[[], float] | None:
    """Bind ``score`` to the model that is being trained, and ready to answer while it is asked."""
    if score is None:
        return None
    current = Loaded(model, loaded.tokenizer, loaded.kind, loaded.folder, loaded.context)

    def ask() -> float:
        with answering(model):
            return score(current)

    return ask


def check_context(loaded: Loaded, settings: TrainSettings) -> int:
    """Return the limit in tokens: ``train.max_tokens`` and the virtual ones, or the context where that is smaller."""
    limit = settings.max_tokens + loaded.virtual_tokens
    return min(limit, loaded.context) if loaded.context else limit


def write_adapter(given: Ingredients, name: str, model: Any, loaded: Loaded, where: CandidateDir) -> None:
    """Write weights, tokenizer where the weights are a whole model, and the card, all or nothing."""
    candidate = given.recipe.candidates[name]
    method = resolve("method", candidate.method, METHODS)
    plain = resolved(given.recipe)
    card = AdapterCard(
        model=given.recipe.model,
        model_hash=fingerprint(given.model),
        method=candidate.method,
        settings=plain["candidates"][name]["settings"] or {},
        tasks=tuple(plain["tasks"]),
        seed=given.recipe.seed,
        max_tokens=train_settings(given.recipe, name).max_tokens,
        tunesmith=__version__,
    )
    staged = where.root / ".adapter.tmp"
    with full_disk_explained(where.root, "the adapter"):
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        method.save(model, staged)
        if method.ON_DISK == "model":
            loaded.tokenizer.save_pretrained(staged)
        else:
            portable(staged, given.recipe.model)
        write_record(staged / CARD, card)
        if hasattr(method, "vectors"):
            found = nearest_tokens(method.vectors(model), model, loaded.tokenizer)
            write_record(staged / where.nearest.name, found)
        publish(staged, where.adapter)


def portable(adapter: Path, model: str) -> None:
    """Let an adapter name its base as others know it, and leave out the empty page that peft puts beside it."""
    (adapter / "README.md").unlink(missing_ok=True)
    config = adapter / "adapter_config.json"
    found = json.loads(config.read_text(encoding="utf-8"))
    found["base_model_name_or_path"] = public_name(model)
    config.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")

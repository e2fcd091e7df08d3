"""The state of a training to disk and back, so that one that was killed ends as if it had not been."""

import math
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from tunesmith.errors import RecipeError, UserError
from tunesmith.machine import compute_device, device_module
from tunesmith.progress import say
from tunesmith.records import TrainPoint
from tunesmith.training.checkpoint import damage, newest, read_checkpoint, remove_old, write_checkpoint
from tunesmith.training.job import Job, Progress, load_trainable, trainable
from tunesmith.training.optimizer import as_kept


def save(job: Job, optimizer: Any, progress: Progress) -> None:
    """Write a checkpoint of everything the rest of the training depends on."""
    names = {parameter: name for name, parameter in trainable(job.model).items()}
    moments: dict[str, Tensor] = {}
    for parameter, values in optimizer.state.items():
        moments.update({f"{key}/{names[parameter]}": torch.as_tensor(value) for key, value in values.items()})
    state = {
        "identity": job.identity,
        "progress": {key: getattr(progress, key) for key in Progress.__slots__ if key != "best"},
        "best": progress.best if math.isfinite(progress.best) else None,
        "random": random_states(),
        "needs": needs(progress),
    }
    weights = trainable(job.model)
    name = f"step-{progress.step:08d}"
    write_checkpoint(job.checkpoints, name, {"weights": weights, "optimizer": moments}, state)
    remove_old(job.checkpoints, job.settings.keep_checkpoints, needs(progress))


def save_best(job: Job, progress: Progress) -> None:
    """Write the weights as the best so far; those of before stay for as long as a checkpoint needs them."""
    name = needs(progress)[0]
    write_checkpoint(job.checkpoints, name, {"weights": trainable(job.model)}, {"step": progress.step})
    remove_old(job.checkpoints, job.settings.keep_checkpoints, [name])


def load_best(job: Job, progress: Progress) -> None:
    """Put the best weights that validation found into the model, if anything was validated.

    Raises:
        UserError: They were damaged on the disk.
    """
    for name in needs(progress):
        folder = job.checkpoints / name
        if problem := damage(folder):
            raise UserError(f"{folder / problem}. Run the same command again: it goes on from before these weights.")
        load_trainable(job.model, read_checkpoint(folder).tensors["weights"])


def needs(progress: Progress) -> list[str]:
    """Return the names of the folders that the rest of a training reads: its best weights so far."""
    return [f"best-{progress.best_step:08d}"] if progress.best_step else []


def resume(job: Job, optimizer: Any) -> Progress:
    """Put model, optimizer and random state back to the newest checkpoint; start from nothing if there is none.

    Raises:
        RecipeError: The checkpoint belongs to another training.
    """
    found = newest(job.checkpoints) if job.checkpoints.is_dir() else None
    if found is None:
        return Progress()
    if found.state["identity"] != job.identity:
        raise RecipeError(
            f"{found.folder}: this checkpoint was made with other settings, other rows or another base model. Undo the "
            f"change, or delete {job.checkpoints} to start afresh."
        )
    load_trainable(job.model, found.tensors["weights"])
    moments = found.tensors["optimizer"]
    for name, parameter in trainable(job.model).items():
        own = {key.split("/", 1)[0]: value for key, value in moments.items() if key.split("/", 1)[1] == name}
        optimizer.state[parameter] = {key: as_kept(optimizer, parameter, value) for key, value in own.items()}
    put_back(found.state["random"])
    best = found.state["best"]
    return Progress(**found.state["progress"], best=math.inf if best is None else best)


def random_states() -> dict[str, list[int]]:
    """Return the state of the random numbers of the processor, and of the graphics card that computes."""
    found = {"cpu": torch.get_rng_state().tolist()}
    if (module := device_module()) is not None:
        found[compute_device().type] = module.get_rng_state(compute_device()).tolist()
    return found


def put_back(states: dict[str, list[int]]) -> None:
    """Let random numbers go on from what ``random_states`` returned; those of a device that is not used are left."""
    torch.set_rng_state(torch.tensor(states["cpu"], dtype=torch.uint8))
    module, kind = device_module(), compute_device().type
    if module is not None and kind in states:
        module.set_rng_state(torch.tensor(states[kind], dtype=torch.uint8), compute_device())


def trim_log(log: Path, step: int) -> None:
    """Cut train.jsonl where the steps begin that are taken again, or where it was damaged.

    The file is shortened in place: a kill leaves it cut or not cut, never rewritten by half.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if not log.exists():
        return
    size = 0
    for number, line in enumerate(log.read_bytes().splitlines(keepends=True), 1):
        try:
            if not line.endswith(b"\n") or TrainPoint.model_validate_json(line).step > step:
                break
        except ValidationError:
            say(f"{log}:{number}: this line is damaged; it and all that follow are dropped.")
            break
        size += len(line)
    with log.open("r+b") as file:
        file.truncate(size)

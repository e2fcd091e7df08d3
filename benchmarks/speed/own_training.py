"""tunesmith's own loop over a given stream of tokens: ``python own_training.py ORDER.json``."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from judge import tokens_of, validation_loss
from turn import Clock, finish, obey, peak_bytes, read_order


def main() -> None:
    from tunesmith.environment import calm

    calm()
    order = read_order()
    obey(order)
    import torch

    from tunesmith.methods import full, lora
    from tunesmith.models.load import load
    from tunesmith.settings import TrainSettings
    from tunesmith.training.job import Job, Progress, tokens_per_batch
    from tunesmith.training.loop import Outlet, ready, run_steps
    from tunesmith.training.optimizer import make_optimizer

    stream, frozen = order["stream"], order["adapter"] is not None
    loaded = load(Path(order["model"]), dtype=getattr(torch, order["dtype"]))
    method: Any = lora if frozen else full
    model = method.attach(lora.Settings(rank=stream["rank"]) if frozen else full.Settings(), loaded.model, loaded.kind)
    if frozen:
        put_start(model, Path(order["adapter"]))
    settings = TrainSettings(
        learning_rate=stream["rate"], warmup=0.0, schedule="constant", validations=0, checkpoint_minutes=1e6,
        **order.get("settings", {}),
    )  # fmt: skip
    clock, progress = Clock(order["seconds"]), Progress()
    with TemporaryDirectory() as folder:
        where = Path(folder)
        job = Job(
            "speed", model, loaded.kind, stream["pad"], encoded(stream), (), settings, stream["rate"], 0,
            order.get("autocast", False), where, where / "train.jsonl", "",
        )  # fmt: skip
        optimizer = make_optimizer(model, settings)
        late: list[bool] = []
        with ready(job) as job, job.log.open("w", encoding="utf-8") as log:
            fused = job.stack is not None
            out = Outlet(log, lambda done, text: late.append(clock.tick()), lambda: False)
            clock.start()
            for count in range(1, len(stream["steps"]) + 1):  # so that it can end early
                run_steps(job, steps_of(stream, job)[:count], optimizer, progress, out)
                if late[-1]:
                    break
            peak, at_once = peak_bytes(), tokens_per_batch(job)
    finish(
        order, seconds=clock.seconds, uncounted=clock.uncounted, losses=progress.losses, tokens=progress.tokens,
        peak_bytes=peak, fused=fused, **{"at once": at_once},
        validation=validation_loss(model, stream["validation"]), wanted=len(stream["steps"]),
    )  # fmt: skip


def put_start(model: Any, folder: Path) -> None:
    """Begin with the low-rank matrices that everybody begins with."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))


def encoded(stream: dict[str, Any]) -> list[Any]:
    """Return the rows as tunesmith's own records."""
    from tunesmith.data.encode import Encoded

    found = []
    for number, row in enumerate(stream["rows"]):
        targets = tuple(token for token in row["labels"] if token != -100)
        trains = () if stream["seq2seq"] else tuple(token != -100 for token in row["labels"])
        found.append(Encoded(f"row/{number}", tuple(row["ids"]), targets, trains))
    return found


def steps_of(stream: dict[str, Any], job: Any) -> list[Any]:
    """Return the optimizer steps, cut into batches as tunesmith's loop cuts them."""
    from tunesmith.training.batches import split_step
    from tunesmith.training.job import tokens_per_batch

    sizes = [tokens_of(row, stream["seq2seq"]) for row in stream["rows"]]
    return [
        (number + 1.0, split_step(step, sizes, tokens_per_batch(job), ragged=job.kind == "causal"))
        for number, step in enumerate(stream["steps"])
    ]


if __name__ == "__main__":
    main()

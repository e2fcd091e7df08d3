"""transformers' Trainer, trl's SFTTrainer, and the plain loop that both are judged by, over a given stream of tokens.

``python peer_training.py ORDER.json``, in the peers' environment. ``order["program"]`` is "plain", "trainer" or "trl";
``order["tuned"]`` says whether it runs as it comes or as well as it can be made to run.
"""

from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import Any

import torch
from judge import Row, chosen, row_loss, tokens_of, validation_loss
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from turn import Clock, device, finish, obey, on_card, peak_bytes, read_order


def main() -> None:
    order = read_order()
    obey(order)
    model = load_model(order)
    clock = Clock(order["seconds"])
    run = {"plain": plain, "trainer": trainer, "trl": trl}[order["program"]]
    losses, tokens = run(order, model, clock)
    peak = peak_bytes()
    loss = validation_loss(model, order["stream"]["validation"])
    finish(
        order, seconds=clock.seconds, uncounted=clock.uncounted, losses=losses, tokens=tokens, peak_bytes=peak,
        validation=loss, wanted=len(order["stream"]["steps"]),
    )  # fmt: skip


def load_model(order: dict[str, Any]) -> Any:
    """Return the base, with the low-rank matrices that everybody begins with if the order has some."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    auto = AutoModelForSeq2SeqLM if order["stream"]["seq2seq"] else AutoModelForCausalLM
    given = {"dtype": getattr(torch, order["dtype"])} if order["tuned"] else {}
    model = auto.from_pretrained(order["model"], **given).to(device())
    if order["adapter"]:
        model = PeftModel.from_pretrained(model, order["adapter"], is_trainable=True)
    return model.train()


def plain(order: dict[str, Any], model: Any, clock: Clock) -> tuple[list[float], int]:
    """Take every step one row at a time, with transformers' own layers."""
    stream = order["stream"]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=stream["rate"], weight_decay=0)
    losses, tokens = [], 0
    clock.start()
    for rows in chosen(stream):
        total, counted = 0.0, sum(label != -100 for row in rows for label in row["labels"])
        for row in rows:
            loss = row_loss(model, row)[0] / counted
            loss.backward()
            total += loss.item()
            tokens += tokens_of(row, stream["seq2seq"])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
        if clock.tick():
            break
    return losses, tokens


class Rows(Dataset[dict[str, list[int]]]):
    """The rows in the order in which they are wanted: those of a step together; sorted within it where tuned."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.rows: list[Row] = []
        for step in chosen(order["stream"]):
            self.rows += sorted(step, key=lambda row: -len(row["ids"])) if order["tuned"] else step

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return {"input_ids": self.rows[index]["ids"], "labels": self.rows[index]["labels"]}

    def as_dicts(self) -> Iterator[dict[str, list[int]]]:
        """Yield all rows."""
        return (self[index] for index in range(len(self)))


def common_arguments(order: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return what the two trainers are told alike: what equal steps demand, and nothing for speed unless tuned."""
    stream, batch = order["stream"], order["batch"]
    found: dict[str, Any] = {
        "output_dir": folder, "use_cpu": not on_card(), "num_train_epochs": 1, "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": stream["rows_per_step"] // batch, "learning_rate": stream["rate"],
        "lr_scheduler_type": "constant", "max_grad_norm": 1.0, "logging_steps": 1, "save_strategy": "no",
        "report_to": "none", "disable_tqdm": True, "train_sampling_strategy": "sequential",
    }  # fmt: skip
    if order["tuned"]:
        found |= {"optim": "adamw_torch_fused", "gradient_checkpointing": False, "bf16": order.get("autocast", False)}
    if order.get("wide"):
        found["bf16"] = False
    return found


def callback(clock: Clock) -> Any:
    """Return what times a trainer's steps, and ends it when time is up."""
    from transformers import TrainerCallback

    class Timing(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            clock.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            late = clock.tick()  # always: at the last step the trainer has asked to stop before us
            control.should_training_stop = control.should_training_stop or late

    return Timing()


def losses_of(trainer: Any) -> list[float]:
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


def trainer(order: dict[str, Any], model: Any, clock: Clock) -> tuple[list[float], int]:
    """Run transformers' Trainer."""
    from transformers import Trainer, TrainingArguments

    stream = order["stream"]
    collate = Padding(stream["pad"], stream["seq2seq"], model.config)
    # T5's own loss is a mean over each batch, whatever it is told; equal steps need the mean over the step.
    more = {"compute_loss_func": summed} if stream["seq2seq"] else {}
    with TemporaryDirectory() as folder:
        runner = Trainer(
            model, TrainingArguments(**common_arguments(order, folder)), train_dataset=Rows(order),
            data_collator=collate, callbacks=[callback(clock)], **more,
        )  # fmt: skip
        runner.train()
    return losses_of(runner), collate.tokens


def summed(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Return the loss of a batch as its share of the step's mean."""
    logits = outputs.logits.flatten(0, 1).float()
    return cross_entropy(logits, labels.flatten(), ignore_index=-100, reduction="sum") / num_items_in_batch


class Padding:
    """Rows to padded tensors; counts the real tokens that went through."""

    def __init__(self, pad: int, seq2seq: bool, config: Any) -> None:
        self.pad, self.seq2seq, self.config, self.tokens = pad, seq2seq, config, 0

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Return a batch as the trainer wants it."""
        width, depth = (max(len(row[key]) for row in rows) for key in ("input_ids", "labels"))
        ids = [row["input_ids"] + [self.pad] * (width - len(row["input_ids"])) for row in rows]
        mask = [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows]
        labels = torch.tensor([row["labels"] + [-100] * (depth - len(row["labels"])) for row in rows])
        found = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": labels}
        self.tokens += int(found["attention_mask"].sum())
        if self.seq2seq:
            self.tokens += int((labels != -100).sum())
            start = torch.full((len(rows), 1), self.config.decoder_start_token_id)
            before = torch.cat([start, labels[:, :-1]], 1)
            found["decoder_input_ids"] = before.masked_fill(before == -100, self.pad)
        return found


def trl(order: dict[str, Any], model: Any, clock: Clock) -> tuple[list[float], int]:
    """Run trl's SFTTrainer."""
    import datasets
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    rows = Rows(order)
    with TemporaryDirectory() as folder:
        runner = SFTTrainer(
            model, SFTConfig(**common_arguments(order, folder)), callbacks=[callback(clock)],
            train_dataset=datasets.Dataset.from_list(list(rows.as_dicts())),
            processing_class=AutoTokenizer.from_pretrained(order["model"]),
        )  # fmt: skip
        runner.train()
    done = order["stream"]["rows_per_step"] * len(clock.ends)
    return losses_of(runner), sum(len(row["ids"]) for row in rows.rows[:done])


if __name__ == "__main__":
    main()

"""transformers' answers to a given set of prompts: ``python peer_answering.py ORDER.json``, in the peers' environment.

``order["program"]`` is "generate" (padded batches) or "continuous" (its continuous batching). ``order["sorted"]`` says
whether prompts of like length are answered together.
"""

import time
from typing import Any

import torch
from turn import device, finish, obey, on_card, peak_bytes, read_order, settle, warm_up

PAGE, READ_AT_ONCE, READ_ON_CARD = 256, 1024, 4096  # tokens


def main() -> None:
    order = read_order()
    obey(order)
    from transformers import AutoModelForCausalLM

    stream = order["stream"]
    given = {"dtype": getattr(torch, order["dtype"])} if order["tuned"] else {}
    model = AutoModelForCausalLM.from_pretrained(order["model"], **given).eval().to(device())
    run = {"generate": padded, "continuous": continuous}[order["program"]]
    prompts = stream["prompts"][: order.get("first") or None]
    if order["program"] == "generate" or on_card():
        first, few = warm_up()
        run(model, prompts[:first], {**order, "new": few})
    settle()
    start = time.perf_counter()
    answers = run(model, prompts, {**order, "new": stream["new"]})
    settle()
    seconds = time.perf_counter() - start
    stops = set(stream["stops"])
    finish(order, seconds=[0.0, seconds], answers=[until(a, stops) for a in answers], peak_bytes=peak_bytes())


@torch.inference_mode()
def padded(model: Any, prompts: list[list[int]], order: dict[str, Any]) -> list[list[int]]:
    """Answer in padded batches."""
    stream, places = order["stream"], list(range(len(prompts)))
    if order["sorted"]:
        places.sort(key=lambda place: -len(prompts[place]))
    answers: list[list[int]] = [[] for _ in prompts]
    for start in range(0, len(places), order["batch"]):
        batch = places[start : start + order["batch"]]
        width = max(len(prompts[place]) for place in batch)
        blank = [width - len(prompts[place]) for place in batch]
        ids = [[stream["pad"]] * n + prompts[place] for n, place in zip(blank, batch, strict=True)]
        mask = [[0] * n + [1] * (width - n) for n in blank]
        found = model.generate(
            input_ids=torch.tensor(ids, device=model.device), attention_mask=torch.tensor(mask, device=model.device),
            max_new_tokens=order["new"], do_sample=False, pad_token_id=stream["pad"], eos_token_id=stream["stops"],
        )  # fmt: skip
        for place, row in zip(batch, found, strict=True):
            answers[place] = row[width:].tolist()
    return answers


def continuous(model: Any, prompts: list[list[int]], order: dict[str, Any]) -> list[list[int]]:
    """Answer with continuous batching.

    By itself it takes 60 % of the memory, and looks through all of it; it is given room for one batch instead.
    """
    from transformers import ContinuousBatchingConfig, GenerationConfig

    stream, longest = order["stream"], max(map(len, prompts)) + order["new"]
    room = ContinuousBatchingConfig(
        page_size=PAGE, num_blocks=order["batch"] * -(-longest // PAGE),
        max_batch_tokens=READ_ON_CARD if on_card() else READ_AT_ONCE,
    )  # fmt: skip
    config = GenerationConfig(
        do_sample=False, max_new_tokens=order["new"], pad_token_id=stream["pad"], eos_token_id=stream["stops"]
    )
    found = model.generate_batch(inputs=prompts, generation_config=config, continuous_batching_config=room)
    rows = sorted(found.values(), key=lambda one: int(str(one.request_id).rsplit("_", 1)[-1]))
    if len(rows) != len(prompts):
        raise SystemExit(f"continuous batching answered {len(rows)} of {len(prompts)} prompts")
    if errors := [row.error for row in rows if row.error]:
        raise SystemExit(f"continuous batching failed: {errors[0]}")
    return [list(row.generated_tokens) for row in rows]


def until(answer: list[int], stops: set[int]) -> list[int]:
    """Return an answer up to the token that ended it."""
    return next((answer[:place] for place, token in enumerate(answer) if token in stops), answer)


if __name__ == "__main__":
    main()

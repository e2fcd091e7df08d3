"""A short training whose losses are written down; another version of anything that changes them is noticed here."""

import json
import os
from pathlib import Path

import pytest
from workshop import LORA, ingredients, make_job, read_log, recipe

from tunesmith.training.loop import train

GOLDEN = Path(__file__).parents[1] / "golden" / "training"


def test_the_golden_run_ends_where_it_ended(tiny: Path, tmp_path: Path) -> None:
    given = recipe(
        {**LORA, "rank": 8}, max_steps=20, epochs=9.0, validations=4, tokens_per_step=200, tokens_per_batch=100
    )
    job, _ = make_job(ingredients(given, tiny, train=32, validation=6), tmp_path)
    progress = train(job)
    log = read_log(tmp_path)
    found = {
        "losses": [point.loss for point in log if point.loss is not None],
        "validation": [point.validation_loss for point in log if point.validation_loss is not None],
        "tokens": progress.tokens,
        "target_tokens": progress.target_tokens,
    }
    path = GOLDEN / f"{job.kind}.json"
    if os.environ.get("TUNESMITH_WRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        pytest.skip(f"{path} was written")
    wanted = json.loads(path.read_text(encoding="utf-8"))
    assert len(wanted["losses"]) == 20
    assert found["losses"] == pytest.approx(wanted["losses"], rel=1e-4)
    assert found["validation"] == pytest.approx(wanted["validation"], rel=1e-4)
    assert (found["tokens"], found["target_tokens"]) == (wanted["tokens"], wanted["target_tokens"])
    first, last = wanted["losses"][0], sum(wanted["losses"][-3:]) / 3
    assert first - last > 2.0, "nats per target token that the model must have learned"

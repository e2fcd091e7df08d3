"""The tables that pages show of a sweep: what was measured, what failed, what is still missing."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT

SCORE = {"value": 40.04, "low": 38.96, "high": 41.2}
BASE = {"value": 24.14, "low": 23.0, "high": 25.3}
GAIN = {"value": 15.9, "low": 14.7, "high": 17.12}


def cell(**changes: Any) -> dict[str, Any]:
    found = {
        "rows": {"train": 540, "validation": 60, "test": 200},
        "scores": dict.fromkeys(("rouge1", "rouge2", "rougeL"), SCORE), "gain": {"rouge1": GAIN},
        "method": "lora", "trainable": 4884480, "share": 0.0363, "adapter_bytes": 19595024,
        "seconds": {"training": 1721.0, "answering": 455.0}, "epochs": 2.0,
        "peak_bytes": {"training": 2525343744, "answering": 2371063808},
    }  # fmt: skip
    return {**found, **changes}


@pytest.fixture
def sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    monkeypatch.delitem(sys.modules, "sweeps", raising=False)
    module = __import__("sweeps")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


def write(folder: Path, name: str, candidates: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found = {
        "question": "What?", "tested on": "200 rows, chosen by seed", "epochs": "those of each method",
        "candidates": candidates, "missing": [], "failed": {}, "device": "a machine", "date": "2026-11-25",
        "cells": {"zero-shot": cell(gain={}, trainable=0)},
    }  # fmt: skip
    result = {**found, **changes}
    (folder / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")
    return result


def lines(sweeps: Any, part: str) -> list[str]:
    def table(header: Any, rows: Any) -> str:
        return "\n".join(" | ".join(line) for line in [header, *rows])

    return str(sweeps.parts(table)[part]()).splitlines()


@pytest.mark.parametrize(
    "part", ["measured-lora", "measured-methods", "measured-ranks", "measured-examples", "measured-rates"]
)
def test_without_a_result_a_part_says_so(part: str, sweeps: Any) -> None:
    (line,) = lines(sweeps, part)
    assert line.startswith("Not measured yet; [benchmarks/")


def test_a_method_has_its_rows_and_says_which_are_missing_or_failed(sweeps: Any, tmp_path: Path) -> None:
    candidates = {"lora": {"method": "lora"}, "dora": {"method": "lora", "dora": True}, "full": {"method": "full"},
                  "bitfit": {"method": "bitfit"}}  # fmt: skip
    known = {"zero-shot": cell(gain={}, trainable=0), "lora": cell()}
    write(tmp_path, "methods", candidates, cells=known, missing=["dora", "full"],
          failed={"bitfit": {"why": "refused: no biases"}})  # fmt: skip
    head, lora, dora = lines(sweeps, "measured-lora")
    assert head == (
        "candidate | ROUGE-1 | ROUGE-2 | ROUGE-L | gain in ROUGE-1 | learns | on disk | training | highest memory"
    )
    score = "40.0 (39.0 to 41.2)"
    assert lora == (
        f"`{{method: lora}}` | {score} | {score} | {score} | +15.9 (14.7 to 17.1) | 4.88 M, 3.6 % | 19.6 MB | "
        "28 min 41 s | 2.53 GB"
    )
    assert dora.startswith("`{method: lora, dora: true}` | not measured yet | ")
    assert lines(sweeps, "measured-bitfit")[1].startswith("`{method: bitfit}` | refused: no biases | ")
    assert lines(sweeps, "measured-ia3")[0].startswith("Not measured yet")


def test_a_table_with_times_says_where_candidates_were_tuned_side_by_side(sweeps: Any, tmp_path: Path) -> None:
    candidates = {"lora": {"method": "lora"}, "full": {"method": "full"}}
    known = {"zero-shot": cell(gain={}), "lora": cell(**{"at once": 4}), "full": cell()}
    write(tmp_path, "methods", candidates, cells=known, **{"at once": 4})
    said = "Up to 4 candidates were tuned at the same time: each of them took longer than it does alone."
    assert lines(sweeps, "measured-lora")[-2:] == ["", said]
    assert said in lines(sweeps, "measured-methods")[0]
    assert said not in lines(sweeps, "measured-full")


def test_the_whole_table_begins_with_the_largest_gain_and_says_what_it_was_measured_on(
    sweeps: Any, tmp_path: Path
) -> None:
    better = cell(gain={"rouge1": {"value": 17.0, "low": 16.0, "high": 18.0}})
    candidates = {name: {"method": name} for name in ("ia3", "lora", "full")}
    known = {"zero-shot": cell(gain={}), "lora": cell(), "full": better}
    result = write(tmp_path, "methods", candidates, cells=known, missing=["ia3"])
    said, _, _, *rows = lines(sweeps, "measured-methods")
    assert [row.split("`")[1] for row in rows] == ["{method: full}", "{method: lora}", "{method: ia3}"]
    assert "540 dialogues to learn from" in said
    assert "tested on 200 (200 rows, chosen by seed)" in said
    assert "2 of 3 are measured" in said
    assert sweeps.in_a_line(result) == (
        "ROUGE-1 points over zero-shot: full +17.0 (16.0 to 18.0), lora +15.9 (14.7 to 17.1); 2 of 3 measured"
    )


def test_ranks_and_lengths_stand_in_the_order_of_their_numbers(sweeps: Any, tmp_path: Path) -> None:
    write(tmp_path, "rank", {f"rank-{r}": {"method": "lora", "rank": r} for r in (16, 1, 64, 4)})
    assert [row.split("`")[1] for row in lines(sweeps, "measured-ranks")[3:]] == [
        f"{{method: lora, rank: {r}}}" for r in (1, 4, 16, 64)
    ]
    prompts = {"tokens-20": {"method": "soft-prompt", "tokens": 20}, "tokens-5": {"method": "soft-prompt", "tokens": 5},
               "init-random": {"method": "soft-prompt", "init": "random"},
               "rate-0.1": {"method": "soft-prompt", "train": {"learning_rate": 0.1}},
               "rate-0.001": {"method": "soft-prompt", "train": {"learning_rate": 0.001}}}  # fmt: skip
    write(tmp_path, "prompt_length", prompts)
    assert [row.split("`")[1] for row in lines(sweeps, "measured-lengths")[3:]] == [
        "{method: soft-prompt, tokens: 5}", "{method: soft-prompt, tokens: 20}", "{method: soft-prompt, init: random}",
        "{method: soft-prompt, train: {learning_rate: 0.001}}", "{method: soft-prompt, train: {learning_rate: 0.1}}",
    ]  # fmt: skip


def gaining(value: float, **changes: Any) -> dict[str, Any]:
    return cell(gain={"rouge1": {"value": value, "low": value - 1, "high": value + 1}}, **changes)


def test_the_smallest_number_that_nearly_does_is_told_once_all_are_measured(sweeps: Any, tmp_path: Path) -> None:
    gains = {1: 15.1, 2: 16.9, 4: 18.3, 64: 17.4}
    known = {"zero-shot": cell(gain={}), **{f"rank-{rank}": gaining(value) for rank, value in gains.items()}}
    candidates = {f"rank-{rank}": {"method": "lora", "rank": rank} for rank in gains}
    write(tmp_path, "rank", candidates, cells=known)
    said = "Of the ranks, each trained once, 2 is the smallest with at least 90 % of the largest gain, which 4 has."
    assert lines(sweeps, "measured-ranks")[-2:] == ["", said]
    write(tmp_path, "rank", {**candidates, "rank-8": {"method": "lora", "rank": 8}}, cells=known)
    assert said not in lines(sweeps, "measured-ranks")


def test_a_method_that_learns_far_fewer_weights_is_set_beside_lora(sweeps: Any, tmp_path: Path) -> None:
    known = {"lora": gaining(20.0), "soft-prompt": gaining(16.0, trainable=11520), "full": gaining(22.0)}
    candidates = {name: {"method": name} for name in known}
    write(tmp_path, "methods", candidates, cells={"zero-shot": cell(gain={}), **known})
    assert lines(sweeps, "measured-soft-prompt")[-1] == "That is 80 % of LoRA's gain."
    assert "of LoRA's gain" not in lines(sweeps, "measured-full")[-1]
    known["soft-prompt"]["epochs"] = 6.0
    cells = {"zero-shot": cell(gain={}), **known, "lora-6-epochs": gaining(32.0)}
    write(tmp_path, "methods", candidates, cells=cells)
    said = "That is 80 % of LoRA's gain, and 50 % of what LoRA gains in as many epochs."
    assert lines(sweeps, "measured-soft-prompt")[-1] == said


def test_a_cell_that_was_measured_elsewhere_says_where(sweeps: Any, tmp_path: Path) -> None:
    known = {"lora": cell(device="a card"), "ia3": cell(device="a card"), "full": cell(device="a processor")}
    candidates = {name: {"method": name} for name in known}
    base = cell(gain={}, device="a card", scores=dict.fromkeys(("rouge1", "rouge2", "rougeL"), BASE))
    write(tmp_path, "methods", candidates, cells={"zero-shot": base, **known})
    said, *_ = lines(sweeps, "measured-methods")
    assert "measured, on a card," in said
    assert said.endswith(
        "Where a row names another machine, its time and memory cannot be compared with those of the other rows; of "
        "rows with the same machine its time only roughly, since it is shared and more or less busy."
    )
    assert "28 min 41 s (on a processor) | 2.53 GB (on a processor)" in lines(sweeps, "measured-full")[1]
    assert "(on" not in lines(sweeps, "measured-lora")[1]


@pytest.mark.parametrize(
    ("score", "said"), [(0.6, "whose ROUGE-1 differs by up to 0.6."), (0.02, "more or less busy.")]
)
def test_where_the_base_answers_otherwise_elsewhere_the_page_says_so(
    score: float, said: str, sweeps: Any, tmp_path: Path
) -> None:
    there, here = cell(device="a card"), cell(device="a processor")
    value = there["scores"]["rouge1"]["value"] - there["gain"]["rouge1"]["value"]
    base = cell(gain={}, device="a card")
    base["scores"] = {metric: {**one, "value": value - score} for metric, one in base["scores"].items()}
    there["gain"] = {metric: {**one, "value": one["value"] + score} for metric, one in there["gain"].items()}
    candidates = {"lora": {"method": "lora"}, "ia3": {"method": "ia3"}}
    write(tmp_path, "methods", candidates, cells={"zero-shot": base, "lora": there, "ia3": here})
    assert lines(sweeps, "measured-methods")[0].endswith(said)


def test_on_one_machine_nothing_is_said_of_another(sweeps: Any, tmp_path: Path) -> None:
    write(tmp_path, "methods", {"lora": {"method": "lora"}}, cells={"zero-shot": cell(gain={}), "lora": cell()})
    said, *_ = lines(sweeps, "measured-methods")
    assert "Each candidate is one training with one seed. 1 of 1 are measured, on a machine," in said
    assert "another machine" not in said


def test_the_table_of_all_results_names_every_machine_that_measured_a_part(
    sweeps: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    monkeypatch.setattr(sweeps, "RESULTS", results)
    known = {"lora": cell(device="a card"), "full": cell(device="a processor")}
    candidates = {name: {"method": name} for name in known}
    cells = {"zero-shot": cell(gain={}, device="a card"), **known}
    write(results, "methods", candidates, cells=cells, device="the last one")
    write(results, "rank", candidates, cells={"zero-shot": cell(gain={}), "lora": cell()})
    (results / "other.json").write_text('{"device": "a laptop", "date": "2026-11-24"}', encoding="utf-8")
    monkeypatch.delitem(sys.modules, "headlines", raising=False)
    rows = str(__import__("headlines").measured(lambda _, rows: "\n".join(row[2] for row in rows))).splitlines()
    assert rows == ["a card; a processor", "a laptop", "a machine"]


def test_the_learning_curve_has_a_line_for_each_number_of_examples(sweeps: Any, tmp_path: Path) -> None:
    names = ("lora-50", "lora-long-50", "full-50", "lora-600", "full-600")
    known = {"zero-shot": cell(gain={}), "lora-600": cell(rows={"train": 600, "validation": 0, "test": 200})}
    write(tmp_path, "examples", {name: {"method": "lora"} for name in names}, cells=known)
    said, _, head, few, many = lines(sweeps, "measured-examples")
    assert "600 dialogues to learn from" in said
    assert head.split(" | ")[0] == "examples"
    assert few == "50 | not measured yet | not measured yet | not measured yet"
    assert many == "600 | +15.9 (14.7 to 17.1) |  | not measured yet"


def test_held_out_families_have_a_column_for_each_number_of_tasks(
    sweeps: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    even = {"value": 44.9, "low": 37.5, "high": 53.3}
    base = {"accuracy": 38.4, "low": 34.45, "high": 42.45, "n": 506, "balanced": even}
    better = {**base, "accuracy": 43.9, "over the base": {"difference": 5.51, "p": 0.0028}}
    same = {**base, "over the base": {"difference": 0.2, "p": 0.41}}
    blind = {"guess": 45.8, "commonest": 56.0}
    cells = {"0": base, "2": same, "8": better}
    result = {
        "held out": {"yes-no-question": ["boolq"]}, "mixtures": [{"shares": [{"per_epoch": 400}, {"per_epoch": 600}]}],
        "accuracy by number of tuning tasks": {"yes-no-question": cells, "all held-out tasks": cells},
        "accuracy without reading": {"yes-no-question": blind, "all held-out tasks": blind},
        "device": "a machine", "date": "2026-11-26",
    }  # fmt: skip
    (tmp_path / "flan.json").write_text(json.dumps(result), encoding="utf-8")
    monkeypatch.delitem(sys.modules, "held_out", raising=False)
    held_out = __import__("held_out")
    told = held_out.by_tasks(lambda header, rows: "\n".join(" | ".join(row) for row in (header, *rows)))
    assert "1,000 examples for each number of tasks" in told
    assert "held out | test rows | a guess | the commonest | the base | 2 tasks | 8 tasks" in told
    accuracy, interval = "(34.5 to 42.5)", "(37.5 to 53.3)"
    first = f"`yes-no-question`: boolq | 506 | 45.8 | 56.0 | 38.4 {accuracy} | 38.4 {accuracy} | 43.9 {accuracy}"
    assert f"{first}, p = 0.003" in told
    assert f"`yes-no-question`: boolq | 45.8 | 44.9 {interval} | 44.9 {interval} | 44.9 {interval}" in told
    assert "all held-out tasks | 506" in told


def test_the_lowest_loss_of_each_candidate_is_bold(sweeps: Any, tmp_path: Path) -> None:
    tried = {"full": (2e-5, 5e-5), "ia3": (5e-5, 3e-3)}
    candidates = {
        f"{method}-{rate:g}": {"method": method, "train": {"learning_rate": rate}}
        for method, rates in tried.items()
        for rate in rates
    }
    losses = {"full-2e-05": 1.75, "full-5e-05": 1.5, "ia3-0.003": 1.625}
    known = {name: cell(validation_loss=loss) for name, loss in losses.items()}
    result = write(tmp_path, "rates", candidates, cells={"zero-shot": cell(gain={}), **known}, missing=["ia3-5e-05"])
    assert lines(sweeps, "measured-rates")[2:] == [
        "candidate | 2e-05 | 5e-05 | 0.003",
        "`{method: full}` | 1.750 | **1.500** | ",
        "`{method: ia3}` |  | not measured yet | **1.625**",
    ]
    assert sweeps.best_rates(result) == "lowest validation loss with: `{method: full}` 5e-05, `{method: ia3}` 0.003"


def test_the_epochs_of_most_candidates_are_said_and_who_had_others(sweeps: Any, tmp_path: Path) -> None:
    known = {"lora": cell(), "full": cell(), "ia3": cell(epochs=6.0), "prefix": cell(epochs=6.0)}
    candidates = {name: {"method": name} for name in known}
    write(tmp_path, "methods", candidates, cells={"zero-shot": cell(gain={}, epochs=None), **known})
    assert ", 2 epochs (6 for `ia3`, `prefix`), tested on" in lines(sweeps, "measured-methods")[0]


def test_where_copies_of_tested_rows_were_taken_out_the_curve_says_how_many_were_left(
    sweeps: Any, tmp_path: Path
) -> None:
    rows = {"train": 99, "validation": 0, "test": 200}
    known = {"lora-50": cell(rows={**rows, "train": 50}), "lora-100": cell(rows=rows)}
    candidates = {name: {"method": "lora"} for name in known}
    write(tmp_path, "examples", candidates, cells={"zero-shot": cell(gain={}), **known})
    first = [line.partition(" | ")[0] for line in lines(sweeps, "measured-examples")]
    assert first[3:5] == ["50", "100 (99 used)"]

"""A made-up run, written as files: four candidates on forty examples, with hostile text in some rows."""

import json
from pathlib import Path
from random import Random

from tunesmith.metrics.measures import Measures, measure_sheet
from tunesmith.metrics.scoring import score_predictions
from tunesmith.metrics.worst import worst_cases
from tunesmith.probe_records import Paragraph, Probe, ProbeAnswer, ProbeResult, ProseLoss, Skill
from tunesmith.recipe import recipe_from_text, resolved
from tunesmith.records import (
    Cut,
    DataHealth,
    EncodingHealth,
    Example,
    Leak,
    Message,
    NearestTokens,
    NearToken,
    Perturbed,
    Prediction,
    PredictResult,
    RunRecord,
    ScoreSheet,
    SetAside,
    TrainPoint,
    TrainResult,
    VirtualToken,
)
from tunesmith.rundir import RunDir, write_record, write_records, write_text

VOCABULARY = (
    "the a my your order parcel customer agent refund card broken late screen arrived asked offered would should new "
    "address confirm tomorrow week shop manager called email because after before wants again promised second payment"
)
WORDS = VOCABULARY.split()
METRICS = ("rouge1", "rouge2", "bleu", "length-ratio")
SKILL = {"zero-shot": 0.35, "two-shot": 0.42, "lora": 0.62, "full": 0.64}
LENGTH = {"zero-shot": 0.7, "two-shot": 0.9, "lora": 1.25, "full": 1.2}
TUNED = {"lora": (4_884_480, 19_600_000, 412.0), "full": (134_515_008, 538_000_000, 1403.0)}

SCRIPT = "<script>document.documentElement.dataset.pwned='1'</script>"
HOSTILE = (
    SCRIPT,
    "</script>" + SCRIPT,
    "<!--<script>",
    "<img src=x onerror=\"document.documentElement.dataset.pwned='1'\">",
    "\"><svg onload=document.documentElement.dataset.pwned='1'>",
    "<a href=\"javascript:document.documentElement.dataset.pwned='1'\">press</a>",
    "{{ 7 * 7 }} {% raw %}",
    "&lt;b&gt; &amp; </textarea></title></style>",
    "<iframe srcdoc=\"<script>parent.document.documentElement.dataset.pwned='1'</script>\"></iframe>",
    "line\u2028separator\u0000\u202e and <link rel=stylesheet href=//evil.example/x.css>",
)
RECIPE = """name: support-summaries
seed: 7
model: smollm2-135m-instruct
tasks:
  - name: summarize
    source: chats.csv
candidates:
  two-shot: {method: none, shots: 2}
  lora: {method: lora, rank: 16}
  full: {method: full}
"""


def write_run(root: Path, *, examples: int = 40, hostile: bool = True) -> RunDir:
    """Write a finished run below ``root`` and return it."""
    random, run = Random(11), RunDir(root)
    write_recipe(run, RECIPE + (f"# {SCRIPT}\n" if hostile else ""))
    write_record(run.record, _record())
    sizes = {"train": examples * 2, "validation": examples // 4, "test": examples}
    for split, number in sizes.items():
        write_records(run.examples(split), [_example(random, split, row, hostile) for row in range(number)])
    write_record(run.health, _health(sizes, hostile))
    test = [_example(Random(f"test{row}"), "test", row, hostile) for row in range(examples)]
    write_records(run.examples("test"), test)
    write_record(run.probe, _probe(hostile))
    for name in SKILL:
        write_candidate(run, name, test, hostile=hostile)
        if name == "zero-shot" or name in TUNED:
            write_record(run.candidate(name).probe_result, _probe_result(name, hostile))
    return run


def write_recipe(run: RunDir, text: str) -> None:
    """Write a recipe as it was given and as it was understood."""
    write_text(run.recipe, text)
    write_text(run.resolved, json.dumps(resolved(recipe_from_text(text))))


def write_candidate(run: RunDir, name: str, test: list[Example], *, hostile: bool = True) -> None:
    """Write answers, scores and, if it is tuned, training of one candidate."""
    files, random = run.candidate(name), Random(name)
    predictions = [_prediction(random, name, row, example, hostile) for row, example in enumerate(test)]
    write_records(files.predictions("summarize"), predictions)
    write_record(files.scores("summarize"), _sheet(random, name, test, predictions))
    write_record(files.measures("summarize"), _measures(random, name, test, predictions))
    write_record(files.predict_result, _predict_result(name, test))
    if name == "lora":
        near = (NearToken(token=" the\n", cosine=0.917), NearToken(token=HOSTILE[3], cosine=0.5))
        token = VirtualToken(task="", place="decoder", number=1, nearest=near)
        write_record(files.nearest, NearestTokens(tokens=(token,)))
    if name in TUNED:
        write_records(files.train_log, _points(random, name))
        write_record(files.train_result, _train_result(name, test))


def _text(random: Random, number: int) -> str:
    return " ".join(random.choices(WORDS, k=number)).capitalize() + "."


def _example(random: Random, split: str, row: int, hostile: bool) -> Example:
    turns = "\n".join(
        f"#{random.choice(['Customer', 'Agent'])}: {_text(random, 9)}" for _ in range(random.randint(6, 14))
    )
    bad = HOSTILE[row] if hostile and row < len(HOSTILE) else ""
    target = _text(random, random.randint(12, 30)) + bad
    return Example(
        id=f"summarize/{split}/chats.csv:{row + 2}",
        task="summarize",
        split=split,
        prompt=f"Summarize the chat.\n\n{turns}{bad}",
        target=target,
        references=(target, _text(random, 15)) if row % 7 == 0 else (target,),
        history=(Message(role="system", content="You answer briefly." + bad),) if row % 5 == 0 else (),
        group=f"customer-{row // 2}",
    )


def _prediction(random: Random, name: str, row: int, example: Example, hostile: bool) -> Prediction:
    kept = [word if random.random() < SKILL[name] else random.choice(WORDS) for word in example.target.split()]
    words = (kept + random.choices(WORDS, k=40))[: max(3, round(len(kept) * random.gauss(LENGTH[name], 0.25)))]
    text = " ".join(words) + (HOSTILE[row] if hostile and row < len(HOSTILE) else "")
    empty, cut = name == "zero-shot" and row % 17 == 16, name == "lora" and row % 13 == 12
    return Prediction(
        example_id=example.id,
        text="" if empty else text,
        prompt_tokens=len(example.prompt) // 4,
        new_tokens=0 if empty else len(text) // 4,
        finish="length" if cut else "stop",
        shots=2 if name == "two-shot" else 0,
    )


def _sheet(random: Random, name: str, test: list[Example], predictions: list[Prediction]) -> ScoreSheet:
    sheet = score_predictions(test, predictions, candidate=name, task="summarize", metrics=METRICS)
    # TER takes seconds to compute; made-up edits show a metric of which less is better
    words = [len(example.target.split()) for example in test]
    counts = tuple((round(one * (1 - SKILL[name]) + random.gauss(0, 2)), one) for one in words)
    value = 100 * sum(edits for edits, _ in counts) / sum(words)
    ter = sheet.scores[0].model_copy(
        update={
            "metric": "ter",
            "value": value,
            "low": value - 3,
            "high": value + 3,
            "higher_is_better": False,
            "signature": "case:lc|tok:tercom|made-up",
        }
    )
    return sheet.model_copy(update={"scores": (*sheet.scores, ter), "counts": {**sheet.counts, "ter": counts}})


def _measures(random: Random, name: str, test: list[Example], predictions: list[Prediction]) -> Measures:
    originals, copies = list(zip(test, predictions, strict=True))[:12], []
    for kind, family in (("typos", "robustness"), ("lower-case", "robustness"), ("first-names", "fairness")):
        for example, prediction in originals[len(kind) % 3 :]:
            changed = example.model_copy(update={"id": f"{example.id}~{kind}", "group": example.group})
            words = [word for word in prediction.text.split() if random.random() < 0.9]
            answer = prediction.model_copy(update={"example_id": changed.id, "text": " ".join(words)})
            copies.append((Perturbed(family=family, kind=kind, of=example.id, example=changed), answer))
    return Measures(
        candidate=name,
        task="summarize",
        sheet=measure_sheet(test, predictions, candidate=name, task="summarize"),
        worst=worst_cases(originals, copies, families=["robustness", "fairness"], metrics=METRICS),
    )


def _encoding(test: list[Example]) -> EncodingHealth:
    cut = tuple(Cut(example_id=example.id, tokens_before=1180, tokens_after=1024) for example in test[:2])
    return EncodingHealth(limit=1024, cut=cut, too_long=(test[3].id,), prompt_tokens=61_234, target_tokens=9_876)


def _points(random: Random, name: str) -> list[TrainPoint]:
    points, steps, (_, _, seconds) = [], 480, TUNED[name]
    for step in range(1, steps + 1):
        loss = 1.5 + 1.6 * 2 ** (-step / (60 if name == "full" else 90)) + random.gauss(0, 0.06)
        rise = 0.0009 * max(0, step - 300) if name == "full" else 0
        checked = step % 96 == 0
        points.append(
            TrainPoint(
                step=step,
                epoch=3 * step / steps,
                seconds=seconds * step / steps,
                tokens=4000 * step,
                target_tokens=640 * step,
                loss=loss - 3 * rise,
                learning_rate=(2e-4 if name == "lora" else 2e-5) * min(step / 24, 1.1 - step / steps),
                gradient_norm=abs(random.gauss(1.2 if name == "lora" else 3.0, 0.2)),
                validation_loss=loss + 0.12 + rise if checked else None,
                note="batch halved, out of memory" if step == 10 and name == "full" else "",
            )
        )
    return points


def _train_result(name: str, test: list[Example]) -> TrainResult:
    trainable, size, seconds = TUNED[name]
    return TrainResult(
        method=name,
        trainable=trainable,
        total=134_515_008 + (trainable if name == "lora" else 0),
        steps=480,
        epochs=3,
        tokens=1_920_000,
        target_tokens=307_200,
        seconds=seconds,
        peak_bytes=1_900_000_000 if name == "lora" else 3_400_000_000,
        adapter_bytes=size,
        train_loss=1.53,
        validation_loss=1.66,
        best_step=480 if name == "lora" else 288,
        learning_rate=2e-4 if name == "lora" else 2e-5,
        precision="bfloat16",
        stopped="finished",
        encoding=_encoding(test),
    )


def _predict_result(name: str, test: list[Example]) -> PredictResult:
    shots = 2 if name == "two-shot" else 0
    return PredictResult(
        seconds=38.4 + 20 * shots,
        peak_bytes=820_000_000,
        prompts=len(test),
        prompt_tokens=30_000,
        new_tokens=4_000,
        answers=len(test),
        flops=9.1e9 * len(test),
        shots_asked=shots,
        shots_fitting={"2": len(test) - 3, "1": 3} if shots else {},
        encoding=EncodingHealth(limit=1024, cut=(), too_long=(), prompt_tokens=30_000, target_tokens=0),
    )


def _probe(hostile: bool) -> Probe:
    """Two skills of 40 items, one of them forgotten by full tuning, and a task of the user's own."""
    skills = (
        Skill(name="entities", metric="accuracy", max_new_tokens=8),
        Skill(name="facts", metric="accuracy", max_new_tokens=8),
        Skill(name="own-sums", metric="rouge1", max_new_tokens=8, own=True),
    )
    items = [
        Example(
            id=f"{skill.name}-{row + 1:02d}", task=skill.name, split="test", target="right", references=("right",),
            prompt=f"Question {row + 1}? " + (HOSTILE[row] if hostile and row < len(HOSTILE) else ""),
            choices=() if skill.own else ("right", "wrong", "odd", "even"),
        )
        for skill in skills
        for row in range(40)
    ]  # fmt: skip
    prose = tuple(Paragraph(id=f"history-{n}", field="history", text="Once.") for n in range(1, 31))
    return Probe(wanted="default", skills=skills, items=tuple(items), prose=prose)


LOST = {"zero-shot": 0, "lora": 2, "full": 9}  # items of "entities"


def _probe_result(name: str, hostile: bool) -> ProbeResult:
    answers = []
    for item in _probe(hostile).items:
        row = int(item.id.rpartition("-")[2]) - 1
        right = row >= LOST[name] if item.task == "entities" else row % 8 > 0
        bad = HOSTILE[row] if hostile and row < len(HOSTILE) else ""
        value = 100.0 * right if item.choices else 30.0 + row % 5 - LOST[name]
        text = "right" if right else f"wrong {bad}"
        answers.append(ProbeAnswer(item=item.id, text=text, value=value))
    random = Random(f"prose {name}")
    losses = [
        ProseLoss(paragraph=one.id, nats=120 * (2.9 + 0.012 * LOST[name]) + random.gauss(0, 2), tokens=120)
        for one in _probe(hostile).prose
    ]
    return ProbeResult(probe="0f" * 32, seconds=41.5, answers=tuple(answers), prose=tuple(losses))


def _health(sizes: dict[str, int], hostile: bool) -> DataHealth:
    bad = HOSTILE[3] if hostile else ""
    return DataHealth(
        rows_read=sum(sizes.values()) + 3,
        rows_per_split=sizes,
        groups=sum(sizes.values()) // 2,
        set_aside=(
            SetAside(file=f"chats{bad}.csv", line=41, reason='column "summary" is empty', excerpt=f"4711,Hello{bad},"),
            SetAside(file="chats.csv", line=77, reason="5 cells where the header has 4", excerpt="4712,a,b,c,d"),
        ),
        leaks=(Leak(kept_id="summarize/test/chats.csv:9", moved_id="summarize/train/chats.csv:51", similarity=0.93),),
        repeated_in_split=2,
        files={f"chats{bad}.csv": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
        notes=(f'The column "summary{bad}" was taken as the target.',),
    )


def _record() -> RunRecord:
    steps = (
        "data",
        "predict zero-shot",
        "predict two-shot",
        "train lora",
        "predict lora",
        "train full",
        "predict full",
    )
    return RunRecord(
        name="support-summaries",
        recipe_hash="5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8",
        model="smollm2-135m-instruct",
        model_hash="b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
        parameters=134_515_008,
        versions={"tunesmith": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
        device="CPU, 2 cores, bfloat16",
        threads=2,
        started="2026-11-20T09:14:03+00:00",
        finished={step: f"2026-11-20T09:{15 + 5 * place}:00+00:00" for place, step in enumerate(steps)},
        seconds={step: 12.5 + 230.0 * ("train" in step) + 26 * place for place, step in enumerate(steps)},
    )

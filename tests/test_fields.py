"""Every field of a recipe changes something: examples, training, answers or the report. None is read by nobody."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_run import Command, chats, write_table

from tunesmith import settings as all_settings
from tunesmith.data.prepare import prepare
from tunesmith.errors import UserError
from tunesmith.measuring import perturbed_copies
from tunesmith.mixtures import mixtures
from tunesmith.opening import Run
from tunesmith.recipe import recipe_from_text
from tunesmith.records import Example, Split
from tunesmith.registry import METHODS, resolve
from tunesmith.rundir import CandidateDir, RunDir, write_records
from tunesmith.settings import Recipe, Settings

OWN = 'tasks.0.template={prompt: "{{ dialogue }}", target: "{{ summary }}"}'
ONE_OF = 'tasks.0.template={phrasings: [{prompt: "{{ dialogue }}", target: "{{ summary }}"}]}'
TWO = ONE_OF.replace("}]}", '}, {form: inverted, prompt: "{{ summary }}", target: "{{ dialogue }}"}]}')
JOINED = TWO.replace("inverted", "few-shot")
WORKED = "tasks.0.forms=[few-shot]"
MOODS = 'tasks.0.template={prompt: "{{ dialogue }}", target: "{{ mood }}"}'
PARTS = "tasks.0.source={train: chats.csv, validation: more.csv, test: rest.csv}"
OFTEN = "train.checkpoint_minutes=1e-9"
SAMPLED = "generate.temperature=2"
KEPT = "data.leaks=keep"
QLORA = "candidates.tuned={method: qlora, rank: 2}"
LAST = "candidates.tuned={method: last-layers, layers: 1}"
MASK = "candidates.tuned={method: sparse, share: 0.01, examples: 3}"
NO_BETTER = "train.keep_best=rouge1"  # the probe below always answers 1
PROMPT = "candidates.tuned={method: soft-prompt, tokens: 4}"
P_TUNING = "candidates.tuned={method: p-tuning, tokens: 4, width: 8}"
PREFIX = "candidates.tuned={method: prefix, tokens: 4}"
IA3 = "candidates.tuned={method: ia3}"
BOTTLENECK = "candidates.tuned={method: bottleneck, width: 8}"
TWO_TASKS = (
    "tasks=[{name: summarize, source: chats.csv, template: dialogue-summary}, "
    "{name: other, source: more.csv, template: dialogue-summary}]"
)

BASE = """\
name: fields
model: tiny
tasks:
  - name: summarize
    source: chats.csv
    template: dialogue-summary
    max_new_tokens: 8
split: {train: 0.6, validation: 0.2, test: 0.2}
train: {epochs: 2, learning_rate: 0.01, tokens_per_step: 300, tokens_per_batch: 150, precision: float32, validations: 2}
candidates:
  tuned: {method: lora, rank: 2}
"""

# Settings class, field, what both recipes say beside BASE, what only the second one says.
DATA: list[tuple[str, str, list[str], str]] = [
    ("Recipe", "seed", [], "seed=5"),
    ("TaskSettings", "name", [], "tasks.0.name=other"),
    ("TaskSettings", "source", [], "tasks.0.source=more.csv"),
    ("TaskSettings", "columns", [], "tasks.0.columns={dialogue: mood}"),
    ("TaskSettings", "template", [], MOODS),
    ("TaskSettings", "references", [], "tasks.0.references=[mood]"),
    ("TaskSettings", "choices", [MOODS], "tasks.0.choices=targets"),
    ("TaskSettings", "forms", [], "tasks.0.forms=[inverted]"),
    ("TaskSettings", "shots", [WORKED], "tasks.0.shots=1"),
    ("TemplateSettings", "prompt", [OWN], "tasks.0.template.prompt=Sum up: {{ dialogue }}"),
    ("TemplateSettings", "target", [OWN], "tasks.0.template.target=It is {{ mood }}"),
    ("TemplateSettings", "phrasings", [OWN], ONE_OF.replace("{{ dialogue }}", "{{ mood }}")),
    ("TemplateSettings", "system", [OWN], "tasks.0.template.system=Be brief."),
    ("TemplateSettings", "inputs", [OWN], "tasks.0.template.inputs=[summary]"),
    ("Phrasing", "prompt", [ONE_OF],
     "tasks.0.template.phrasings.0.prompt=Sum up: {{ dialogue }}"),
    ("Phrasing", "target", [ONE_OF],
     "tasks.0.template.phrasings.0.target=It is {{ mood }}"),
    ("Phrasing", "form", [TWO], "tasks.0.template.phrasings.1.form=zero-shot"),
    ("Phrasing", "intro", [JOINED, WORKED], "tasks.0.template.phrasings.1.intro=Sums:"),
    ("Phrasing", "join", [JOINED, WORKED], "tasks.0.template.phrasings.1.join= = "),
    ("Phrasing", "separator", [JOINED, WORKED], "tasks.0.template.phrasings.1.separator=---"),
    ("SourceSettings", "train", [PARTS, KEPT], "tasks.0.source.train=[chats.csv, extra.csv]"),
    ("SourceSettings", "validation", [PARTS, KEPT], "tasks.0.source.validation=extra.csv"),
    ("SourceSettings", "test", [PARTS, KEPT], "tasks.0.source.test=extra.csv"),
    ("SplitSettings", "train", [], "split.train=0.3"),
    ("SplitSettings", "validation", [], "split.validation=0.4"),
    ("SplitSettings", "test", [], "split.test=0.4"),
    ("SplitSettings", "group", [], "split.group=customer"),
    ("SplitSettings", "column", [], "split.column=side"),
    ("SplitSettings", "limit", [], "split.limit={train: 3}"),
    ("DataSettings", "folder", [], "data.folder=nowhere"),
    ("DataSettings", "allow_bad", ["tasks.0.source=holes.csv", "data.allow_bad=0"], "data.allow_bad=0.9"),
    ("DataSettings", "max_row_bytes", ["data.allow_bad=0.9"], "data.max_row_bytes=125"),
    ("DataSettings", "leak_similarity", [], "data.leak_similarity=0.2"),
    ("DataSettings", "leaks", ["data.leak_similarity=0.2"], KEPT),
    ("MixtureSettings", "limit", [], "mixture.limit=3"),
    ("MixtureSettings", "limits", [], "mixture.limits={summarize: 4}"),
    ("MixtureSettings", "forms", [], "mixture.forms={inverted: 0.5, few-shot: 0.5}"),
    ("MixtureSettings", "scored", [TWO_TASKS, "mixture.held_out=[other]"], "mixture.scored=held-out"),
]  # fmt: skip
SHARES: list[tuple[str, str, list[str], str]] = [
    ("MixtureSettings", "cap", [TWO_TASKS], "mixture.cap=10"),
    ("MixtureSettings", "temperature", [TWO_TASKS, "mixture.cap=100"], "mixture.temperature=2"),
    ("MixtureSettings", "weights", [TWO_TASKS], "mixture.weights={other: 1}"),
    ("MixtureSettings", "examples", [TWO_TASKS], "mixture.examples=7"),
    ("MixtureSettings", "held_out", [TWO_TASKS], "mixture.held_out=[other]"),
    ("MixtureSettings", "tasks", [TWO_TASKS], "mixture.tasks=1"),
    ("TaskSettings", "family", [TWO_TASKS, "mixture.held_out=[other]"], "tasks.0.family=some"),
    ("Candidate", "mixture", [TWO_TASKS], "candidates.tuned.mixture={cap: 5}"),
]
TRAINING: list[tuple[str, str, list[str], str]] = [
    ("Recipe", "model", [], "model=another"),
    ("TrainSettings", "epochs", [], "train.epochs=1"),
    ("TrainSettings", "max_steps", [], "train.max_steps=1"),
    ("TrainSettings", "learning_rate", [], "train.learning_rate=auto"),
    ("TrainSettings", "tokens_per_step", [], "train.tokens_per_step=600"),
    ("TrainSettings", "tokens_per_batch", [], "train.tokens_per_batch=300"),
    ("TrainSettings", "max_tokens", [], "train.max_tokens=60"),
    ("TrainSettings", "warmup", [], "train.warmup=0.9"),
    ("TrainSettings", "schedule", [], "train.schedule=constant"),
    ("TrainSettings", "final_rate", [], "train.final_rate=0.9"),
    ("TrainSettings", "optimizer", ["candidates.tuned={method: full}"], "train.optimizer=adamw-8bit"),
    ("TrainSettings", "weight_decay", [], "train.weight_decay=0.5"),
    ("TrainSettings", "clip", [], "train.clip=1e-6"),
    ("TrainSettings", "beta1", [], "train.beta1=0.1"),
    ("TrainSettings", "beta2", [], "train.beta2=0.1"),
    ("TrainSettings", "precision", [], "train.precision=bfloat16"),
    ("TrainSettings", "replay", [], "train.replay=0.2"),
    ("TrainSettings", "kl", [], "train.kl=0.5"),
    ("TrainSettings", "average", [], "train.average=0.5"),
    ("TrainSettings", "validations", [], "train.validations=1"),
    ("TrainSettings", "keep_best", [], "train.keep_best=rouge1"),
    ("TrainSettings", "patience", [NO_BETTER, "train.validations=4"], "train.patience=1"),
    ("TrainSettings", "checkpoint_minutes", [], OFTEN),
    ("TrainSettings", "keep_checkpoints", [OFTEN], "train.keep_checkpoints=1"),
    ("Candidate", "method", [], "candidates.tuned={method: full}"),
    ("Candidate", "train", [], "candidates.tuned.train={epochs: 1}"),
    ("lora", "rank", [], "candidates.tuned.rank=4"),
    ("lora", "alpha", [], "candidates.tuned.alpha=1"),
    ("lora", "dropout", [], "candidates.tuned.dropout=0.5"),
    ("lora", "targets", [], "candidates.tuned.targets=attention"),
    ("soft-prompt", "tokens", [PROMPT], "candidates.tuned.tokens=5"),
    ("soft-prompt", "init", [PROMPT], "candidates.tuned.init=vocab"),
    ("soft-prompt", "init_text", [PROMPT], "candidates.tuned.init_text=A lamp is broken."),
    ("soft-prompt", "place", [PROMPT, "model=another"], "candidates.tuned.place=decoder"),
    ("soft-prompt", "per_task", [PROMPT, TWO_TASKS], "candidates.tuned.per_task=true"),
    ("p-tuning", "tokens", [P_TUNING], "candidates.tuned.tokens=5"),
    ("p-tuning", "network", [P_TUNING], "candidates.tuned.network=lstm"),
    ("p-tuning", "width", [P_TUNING], "candidates.tuned.width=9"),
    ("prefix", "tokens", [PREFIX], "candidates.tuned.tokens=5"),
    ("prefix", "init", [PREFIX], "candidates.tuned.init=random"),
    ("ia3", "outputs", [IA3], "candidates.tuned.outputs=[q_proj]"),
    ("ia3", "inputs", [IA3], "candidates.tuned.inputs=[up_proj]"),
    ("bottleneck", "width", [BOTTLENECK], "candidates.tuned.width=9"),
    ("bottleneck", "place", [BOTTLENECK], "candidates.tuned.place=parallel"),
    ("bottleneck", "blocks", [BOTTLENECK], "candidates.tuned.blocks=attention"),
    ("bottleneck", "activation", [BOTTLENECK], "candidates.tuned.activation=tanh"),
    ("lora", "rslora", [], "candidates.tuned.rslora=true"),
    ("lora", "dora", [], "candidates.tuned.dora=true"),
    ("lora", "init", [], "candidates.tuned.init=pissa"),
    ("qlora", "rank", [QLORA], "candidates.tuned.rank=4"),
    ("qlora", "alpha", [QLORA], "candidates.tuned.alpha=1"),
    ("qlora", "dropout", [QLORA], "candidates.tuned.dropout=0.5"),
    ("qlora", "targets", [QLORA], "candidates.tuned.targets=attention"),
    ("qlora", "rslora", [QLORA], "candidates.tuned.rslora=true"),
    ("qlora", "dora", [QLORA], "candidates.tuned.dora=true"),
    ("last-layers", "layers", [LAST], "candidates.tuned.layers=2"),
    ("last-layers", "norm", [LAST], "candidates.tuned.norm=false"),
    ("last-layers", "head", [LAST], "candidates.tuned.head=true"),
    (
        "modules",
        "patterns",
        ["candidates.tuned={method: modules, patterns: [model.norm]}"],
        "candidates.tuned.patterns=[model.layers.0]",
    ),
    ("sparse", "share", [MASK], "candidates.tuned.share=0.05"),
    ("sparse", "score", [MASK], "candidates.tuned.score=sam"),
    ("sparse", "examples", [MASK], "candidates.tuned.examples=1"),
]
ANSWERS: list[tuple[str, str, list[str], str]] = [
    ("TaskSettings", "max_new_tokens", [], "tasks.0.max_new_tokens=2"),
    ("GenerateSettings", "beams", [], "generate.beams=3"),
    ("GenerateSettings", "temperature", [], SAMPLED),
    ("GenerateSettings", "top_p", [SAMPLED], "generate.top_p=0.01"),
    ("GenerateSettings", "tokens_per_batch", [], "generate.tokens_per_batch=1"),
    ("Candidate", "shots", [], "candidates.tuned={method: none, shots: 2}"),
]
MEASURES: list[tuple[str, str, list[str], str]] = [
    ("MeasureSettings", "robustness", [], "measures.robustness=true"),
    ("MeasureSettings", "fairness", [], "measures.fairness=true"),
    ("MeasureSettings", "rows", ["measures.robustness=true"], "measures.rows=2"),
]
ELSEWHERE = {
    ("Recipe", "name"): "names the run folder: test_the_name_is_that_of_the_run_folder",
    ("Recipe", "forgetting"): "test_pipeline.py: TestWhatWasForgotten",
    ("Recipe", "sequence"): "test_tuning.py",
    ("TaskSettings", "metrics"): "test_the_metrics_are_those_of_the_report",
    **{
        ("Recipe", part): "its fields are above"
        for part in ("tasks", "split", "data", "mixture", "train", "generate", "measures")
    },
    ("Recipe", "candidates"): "its fields are above",
    ("Candidate", "settings"): "the method's own fields, above",
    **{
        ("SuiteSettings", field): "suites/test_named.py: test_every_field_of_a_suite_reaches_what_asks_it"
        for field in ("suite", "data", "limit", "shots", "chat_template")
    },
}


def test_no_field_is_left_out() -> None:
    kinds = {kind.__name__: kind for kind in vars(all_settings).values()
             if isinstance(kind, type) and issubclass(kind, Settings) and kind is not Settings}  # fmt: skip
    kinds |= {name: resolve("method", name, METHODS).Settings for name in METHODS}
    fields = {(kind, field) for kind in kinds for field in kinds[kind].model_fields}
    shown = [(kind, field) for kind, field, _, _ in (*DATA, *SHARES, *TRAINING, *ANSWERS, *MEASURES)]
    assert len(shown) == len(set(shown))
    assert set(shown) | ELSEWHERE.keys() == fields
    assert set(shown) & ELSEWHERE.keys() == set()


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of csv files."""
    folder = tmp_path_factory.mktemp("tables")
    sides = ("train", "train", "validation", "test")
    rows = [(*row, f"customer {n // 3}", sides[n % 4]) for n, row in enumerate(chats())]
    header = ("dialogue", "summary", "mood", "customer", "side")
    write_table(folder / "chats.csv", header=header, rows=rows)
    for place, name in enumerate(("more", "rest", "extra")):
        write_table(folder / f"{name}.csv", header=header, rows=rows[8 * place : 8 * place + 8])
    write_table(folder / "holes.csv", header=header, rows=[*rows, ("", *rows[0][1:])])
    return folder


Probe = Callable[[Recipe], Any]


def differ(probe: Probe, both: list[str], changed: str, known: dict[str, Any] | None = None) -> bool:
    """Whether a probe finds the two recipes different; ``known`` is what it found for the first ones before."""
    known = {} if known is None else known
    if str(both) not in known:
        known[str(both)] = probe(recipe_from_text(BASE, both))
    return bool(known[str(both)] != probe(recipe_from_text(BASE, [*both, changed])))


@pytest.mark.parametrize(("kind", "field", "both", "changed"), DATA, ids=lambda value: str(value)[:20])
def test_a_field_of_the_data_changes_the_examples(
    kind: str, field: str, both: list[str], changed: str, tables: Path
) -> None:
    def probe(recipe: Recipe) -> str:
        try:
            made = prepare(
                recipe.tasks, split=recipe.split, data=recipe.data, seed=recipe.seed, base=tables,
                mixture=recipe.mixture,
            )  # fmt: skip
        except UserError as error:
            return str(error)
        return json.dumps([[example.model_dump() for example in made.examples[side]] for side in made.examples])

    assert differ(probe, both, changed)


@pytest.mark.parametrize(("kind", "field", "both", "changed"), SHARES, ids=lambda value: str(value)[:20])
def test_a_field_of_the_mixture_changes_the_shares(kind: str, field: str, both: list[str], changed: str) -> None:
    assert differ(lambda recipe: mixtures(recipe, {"summarize": 40, "other": 20}), both, changed)


def examples(split: Split, rows: slice) -> list[Example]:
    return [
        Example(id=f"summarize/{split}/{n}", task="summarize", split=split, prompt=prompt, target=target,
                references=(target,))
        for n, (prompt, target, _) in enumerate(chats()[rows])
    ]  # fmt: skip


@pytest.fixture
def training(tmp_path: Path, tiny_causal: Path, tiny_seq2seq: Path, monkeypatch: pytest.MonkeyPatch) -> Probe:
    """Train in a folder of its own and return everything about it but its times."""
    from tunesmith.environment import calm
    from tunesmith.training import loop
    from tunesmith.training.tune import Ingredients, tune

    calm()
    seen: list[Any] = []
    save, loss_sum = loop.save, loop.loss_sum

    def noted_save(job: loop.Job, *rest: Any) -> None:
        save(job, *rest)
        seen.append(sorted(path.name for path in job.checkpoints.glob("step-*")))

    def noted_loss(model: Any, batch: Any, kind: str, **options: Any) -> Any:
        seen.append(batch.lengths)
        return loss_sum(model, batch, kind, **options)

    monkeypatch.setattr(loop, "save", noted_save)
    monkeypatch.setattr(loop, "loss_sum", noted_loss)

    def probe(recipe: Recipe) -> Any:
        seen.clear()
        where = CandidateDir(tmp_path / "tuned")
        model = tiny_seq2seq if recipe.model == "another" else tiny_causal
        given = Ingredients(recipe, model, examples("train", slice(12)), examples("validation", slice(12, 15)))
        score = (lambda loaded: 1.0) if recipe.train.keep_best != "loss" else None
        result = tune(given, "tuned", where, score=score)
        times = {"seconds", "peak_bytes", "adapter_bytes"}
        lines = [json.loads(line) for line in where.train_log.read_text(encoding="utf-8").splitlines()]
        shutil.rmtree(where.root)
        return [result.model_dump(exclude=times), [{**line, "seconds": 0} for line in lines], list(seen)]

    return probe


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    """What was found for recipes that several fields are compared with."""
    return {}


@pytest.mark.slow
def test_training_twice_is_the_same(training: Probe) -> None:
    assert training(recipe_from_text(BASE)) == training(recipe_from_text(BASE))


@pytest.mark.parametrize(("kind", "field", "both", "changed"), TRAINING, ids=lambda value: str(value)[:20])
def test_a_field_of_training_changes_what_is_trained(
    kind: str, field: str, both: list[str], changed: str, training: Probe, trained: dict[str, Any]
) -> None:
    assert differ(training, both, changed, trained)


@pytest.mark.parametrize(("kind", "field", "both", "changed"), ANSWERS, ids=lambda value: str(value)[:20])
def test_a_field_of_answering_changes_the_answers_or_how_they_are_made(
    kind: str, field: str, both: list[str], changed: str, tiny_causal: Path
) -> None:
    from tunesmith.inference.answer import answer
    from tunesmith.models.load import load

    loaded = load(tiny_causal)
    read: list[tuple[int, ...]] = []
    hook = loaded.model.get_input_embeddings().register_forward_hook(lambda _, given, made: read.append(given[0].shape))

    def probe(recipe: Recipe) -> Any:
        read.clear()
        asked, shown = examples("test", slice(15, 19)), examples("train", slice(12))
        found = answer(recipe, "tuned", loaded, examples=asked, training=shown)
        return [found.predictions, list(read)]

    assert differ(probe, both, changed)
    hook.remove()


@pytest.mark.parametrize(("kind", "field", "both", "changed"), MEASURES, ids=lambda value: str(value)[:20])
def test_a_field_of_the_measures_changes_what_is_asked_again(
    kind: str, field: str, both: list[str], changed: str, tmp_path: Path
) -> None:
    run = RunDir(tmp_path)
    write_records(run.examples("test"), [one.model_copy(update={"prompt": f"{one.prompt} She is late."})
                                         for one in examples("test", slice(15, 21))])  # fmt: skip

    def probe(recipe: Recipe) -> list[str]:
        return [copy.example.id for copy in perturbed_copies(Run(recipe, tmp_path, run))]

    assert differ(probe, both, changed)


def test_the_name_is_that_of_the_run_folder(small: Path, tunesmith: Command) -> None:
    assert tunesmith("check", small, "--set", "name=renamed").code == 0
    assert Path("runs/renamed/data/health.json").is_file()


def test_the_metrics_are_those_of_the_report(finished: Path, tunesmith: Command) -> None:
    found = json.loads(tunesmith("report", finished, "--set", "tasks.0.metrics=[rougeL, chrf]", "--json").out)
    assert {score["metric"] for scores in found["tasks"][0]["scores"].values() for score in scores} == {
        "rougeL",
        "chrf",
    }

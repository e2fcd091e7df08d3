"""Whatever is wrong with what a person gives, the command says where, what and how to mend it: the whole text."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from small_run import Command, as_process, chats, write_table

from tunesmith.data.templates import list_templates
from tunesmith.metrics.scoring import GROUPS
from tunesmith.models.catalog import CATALOG
from tunesmith.registry import METHODS, METRICS
from tunesmith.settings import Recipe, TrainSettings

KNOWN = {
    "RECIPE KEYS": ", ".join(Recipe.model_fields),
    "TRAIN KEYS": ", ".join(TrainSettings.model_fields),
    "LORA KEYS": "method, shots, train, mixture, rank, alpha, dropout, targets, rslora, dora, init",
    "METRICS": ", ".join(sorted({**GROUPS, **METRICS})),
    "METHODS": ", ".join(sorted(METHODS)),
    "CATALOG": ", ".join(CATALOG),
    "TEMPLATES": ", ".join(template.name for template in list_templates()),
    "ENDINGS": ".csv, .tsv, .jsonl, .ndjson, .json, .parquet",
}
"""Lists that messages end with; they grow with the product."""

FOLDER = 'lower-case letters, digits, ".", "_" and "-", at most 64, the first a letter or digit.'
SHARE = "Add rows, raise `split.test`, choose another seed, or give a file for it: `source: {test: FILE}`."


class Bad(NamedTuple):
    """One thing that is wrong with the small run, and what is said to it."""

    code: int
    says: str | list[str]
    edit: tuple[str, str] = ("", "")  # of the recipe: what stood there, what stands there now
    sets: tuple[str, ...] = ()
    files: tuple[tuple[str, str | bytes], ...] = ()
    command: tuple[str, ...] = ("run", "recipe.yaml")


RECIPES = {
    "an unknown key": Bad(
        3, 'recipe.yaml:15: trian: there is no such key. Did you mean "train"? Known here: RECIPE KEYS.',
        edit=("train: {epochs", "trian: {epochs"),
    ),
    "an unknown key further in": Bad(
        3, 'recipe.yaml:15: train.epochz: there is no such key. Did you mean "epochs"? Known here: TRAIN KEYS.',
        edit=("epochs: 1", "epochz: 1"),
    ),
    "an unknown setting of a method": Bad(
        3, 'recipe.yaml:18: candidates.lora.rnak: there is no such key. Did you mean "rank"? Known here: LORA KEYS.',
        edit=("rank: 2", "rnak: 2"),
    ),
    "a word for a number": Bad(
        3, 'recipe.yaml:15: train.epochs: "many" does not fit; it should be a number.',
        edit=("epochs: 1", "epochs: many"),
    ),
    "a number in quotes": Bad(
        3, 'recipe.yaml:15: train.epochs: "1e-4" does not fit; it should be a number. Write it without quotes.',
        edit=("epochs: 1", 'epochs: "1e-4"'),
    ),
    "a key twice": Bad(
        3, 'recipe.yaml:2: "name" stands here twice (first in line 1). Keep one of them.',
        edit=("name: chats\n", "name: chats\nname: other\n"),
    ),
    "several things at once": Bad(
        3, [
            'recipe.yaml:1: name: "../chats" does not fit; it should be ' + FOLDER,
            "recipe.yaml:15: train.clip: -1 does not fit; it should be greater than 0.",
            'recipe.yaml:18: candidates: "../lora" cannot be the name of a folder; use ' + FOLDER,
        ],
        edit=("  lora:", "  ../lora:"),
    ),
    "a candidate whose name leads elsewhere": Bad(
        3, 'recipe.yaml:18: candidates: "../../lora" cannot be the name of a folder; use ' + FOLDER,
        edit=("  lora:", "  ../../lora:"),
    ),
    "a candidate called ..": Bad(
        3, 'recipe.yaml:18: candidates: ".." cannot be the name of a folder; use ' + FOLDER, edit=("  lora:", "  ..:"),
    ),
    "a candidate with a slash": Bad(
        3, 'recipe.yaml:18: candidates: "a/b" cannot be the name of a folder; use ' + FOLDER,
        edit=("  lora:", "  a/b:"),
    ),
    "a task whose name leads elsewhere": Bad(
        3, 'recipe.yaml:9: tasks.1.name: "../mood" does not fit; it should be ' + FOLDER,
        edit=("name: mood", "name: ../mood"),
    ),
    "a run whose name leads elsewhere": Bad(
        3, 'recipe.yaml:1: name: "/chats" does not fit; it should be ' + FOLDER, edit=("name: chats", "name: /chats"),
    ),
    "an unknown method": Bad(
        3, 'recipe.yaml:18: candidates.lora: method "lorra" is not known. Did you mean "lora"? Known: METHODS.',
        edit=("method: lora", "method: lorra"),
    ),
    "an unknown metric": Bad(
        3, 'recipe.yaml:7: tasks.0.metrics: metric "blue" is not known. Did you mean "bleu"? Known: METRICS.',
        edit=("bleu", "blue"),
    ),
    "an unknown metric to keep the best by": Bad(
        3, 'recipe.yaml:15: train.keep_best: metric "ruge1" is not known. Did you mean "rouge1"? Known: METRICS.',
        edit=("epochs: 1", "epochs: 1, keep_best: ruge1"),
    ),
    "an unknown model": Bad(
        3, '--set: model: "smollm-135m-instruct" is no catalog name, folder, .gguf file or hub id. Did you mean '
        '"smollm2-135m-instruct"? Catalog: CATALOG.',
        sets=("model=smollm-135m-instruct",),
    ),
    "no recipe": Bad(
        3, "none.yaml: there is no such file. `tunesmith init TABLE` writes one from a table.",
        command=("run", "none.yaml"),
    ),
    "an empty recipe": Bad(
        3, "recipe.yaml: the file is empty. `tunesmith init TABLE` writes a recipe from a table.",
        files=(("recipe.yaml", ""),),
    ),
    "a recipe that is no mapping": Bad(
        3, "recipe.yaml:1: expected `key: value` lines at the top level.", files=(("recipe.yaml", "- name: chats\n"),),
    ),
    "a folder for a recipe": Bad(3, ".: this is a folder. Name the recipe in it.", command=("check", ".")),
    "a recipe that is not UTF-8": Bad(
        3, "recipe.yaml: byte 9 is not UTF-8. Save the file as UTF-8.", files=(("recipe.yaml", b"name: caf\xe9\n"),),
    ),
    "a binary recipe": Bad(
        3, "recipe.yaml: this is not YAML: unacceptable character #x007f: control characters are not allowed",
        files=(("recipe.yaml", b"\x7fELF\x00\x00"),),
    ),
    "--set without =": Bad(
        3, '--set train.epochs: write it as key=value, for example "train.epochs=1".', sets=("train.epochs",),
    ),
    "--set of an unknown key": Bad(
        3, '--set: train.epoch: there is no such key. Did you mean "epochs"? Known here: TRAIN KEYS.',
        sets=("train.epoch=1",),
    ),
    "--set of an unknown part": Bad(
        3, '--set: trian: there is no such key. Did you mean "train"? Known here: RECIPE KEYS.',
        sets=("trian.epochs=1",),
    ),
    "--set of a task that is not there": Bad(
        3, '--set tasks.7.name=x: there is no entry "7"; there are 2, counted from 0.', sets=("tasks.7.name=x",),
    ),
    "--out of a file": Bad(
        2, "chats.csv: there is a file in the way. Give --out the name of a folder.",
        command=("run", "recipe.yaml", "--out", "chats.csv"),
    ),
    "--out below a file": Bad(
        2, "chats.csv/new: there is a file in the way. Give --out the name of a folder.",
        command=("run", "recipe.yaml", "--out", "chats.csv/new"),
    ),
}  # fmt: skip
DATA = {
    "no data file": Bad(
        4, 'chat.csv: there is no such file in HERE. Did you mean "chats.csv"?',
        edit=("mood\n    source: chats.csv", "mood\n    source: chat.csv"),
    ),
    "an empty file": Bad(4, "chats.csv: the file is empty.", files=(("chats.csv", ""),)),
    "a file of nothing but a header": Bad(
        4, "chats.csv: the file has no rows.", files=(("chats.csv", "dialogue,summary,mood\n"),),
    ),
    "a missing column": Bad(
        4, 'chats.csv: template "dialogue-summary" names {{ summary }}, and there is no column "summary"; it has '
        'dialogue, mood, summry. Did you mean "summry"? Write `columns: {summary: COLUMN}` in the recipe, or change '
        "the template.",
        files=(("chats.csv", "dialogue,summry,mood\n" + "".join(f"hello {n},hi,good\n" for n in range(40))),),
    ),
    "a column that is renamed and not there": Bad(
        4, 'chats.csv: `columns` of task "mood" names "temper", and there is no such column; it has dialogue, mood, '
        "summary, text.",
        edit=("label: mood", "label: temper"),
    ),
    "an unknown template": Bad(
        3, 'recipe.yaml:6: tasks.0.template: template "dialog-summary" is not known. '
        'Did you mean "dialogue-summary"? Known: TEMPLATES.',
        edit=("dialogue-summary", "dialog-summary"),
    ),
    "a template that names no column": Bad(
        4, 'recipe.yaml:6: tasks.0.template: template of task "summarize", prompt, line 1: it names no column; write a '
        "column as {{ name }}.",
        edit=("template: dialogue-summary", 'template: {prompt: "Hello.", target: "{{ summary }}"}'),
    ),
    "a template with an unknown column": Bad(
        4, 'chats.csv: template of task "summarize" names {{ dialog }}, and there is no column "dialog"; it has '
        'dialogue, mood, summary. Did you mean "dialogue"? Write `columns: {dialog: COLUMN}` in the recipe, or change '
        "the template.",
        edit=("template: dialogue-summary", 'template: {prompt: "{{ dialog }}", target: "{{ summary }}"}'),
    ),
    "a template that does not parse": Bad(
        4, 'recipe.yaml:6: tasks.0.template: template of task "summarize", prompt, line 1: unexpected end of template, '
        "expected 'end of print statement'. A column is written {{ name }}, a tag {% if name %}.",
        edit=("template: dialogue-summary", 'template: {prompt: "{{ dialogue", target: "{{ summary }}"}'),
    ),
    "a template that reaches for more than the row": Bad(
        6, 'template of task "summarize", prompt, line 1: access to attribute \'__class__\' of \'str\' object is '
        "unsafe. Templates may use the columns of a row, filters, if and for.",
        edit=("template: dialogue-summary", 'template: {prompt: "{{ dialogue.__class__ }}", target: "{{ summary }}"}'),
    ),
    "a split with an empty part": Bad(
        4, [f'task "{task}": no row is left for test: 2 rows in 2 groups, and a share of 0.2. {SHARE}'
            for task in ("summarize", "mood")],
        files=(("chats.csv", "dialogue,summary,mood\nhello,hi,good\nbye,farewell,bad\n"),),
    ),
    "a group that is no column": Bad(
        4, [
            'split.group is "who", and the rows of task "summarize" have no such column; they have dialogue, mood, '
            "summary.",
            'split.group is "who", and the rows of task "mood" have no such column; they have dialogue, label, mood, '
            "summary, text.",
        ],
        sets=("split.group=who",),
    ),
    "more shots than rows": Bad(
        4, [f'recipe.yaml:17: candidates.two-shot.shots: 99 worked examples are asked for, and task "{task}" has 22 '
            "training rows. Lower it or add rows." for task in ("summarize", "mood")],
        edit=("shots: 2", "shots: 99"),
    ),
    "a metric to keep the best by, and no validation rows": Bad(
        4, ["recipe.yaml:18: candidates.lora: train.keep_best: rouge1 is taken on validation rows, and there are none. "
            "Give split.validation a share, or keep the best by loss."],
        sets=("split.validation=0", "candidates.lora.train={keep_best: rouge1}"),
    ),
    "no test rows": Bad(
        4, "--set: split.test: there are no test examples for summarize, mood. Give it a share of rows.",
        sets=("split.test=0",), command=("check", "recipe.yaml"),
    ),
    "a table whose columns do not tell": Bad(
        4, 'task "table": the columns are a, b, and their names do not tell which is the prompt and which the answer. '
        'Say it in the recipe, for instance `template: {prompt: "{{ a }}", target: "{{ b }}"}` with your columns for a '
        "and b.",
        files=(("table.csv", "a,b\n1,2\n3,4\n"),), command=("run", "table.csv"),
    ),
    "a table that is not there": Bad(
        4, 'chat.csv: there is no such file in HERE. Did you mean "chats.csv"?', command=("run", "chat.csv"),
    ),
    "a table of a kind that is not read": Bad(
        4, 'chats.xlsx: the ending ".xlsx" is not read; ENDINGS are. Save it as one of these.',
        command=("run", "chats.xlsx"),
    ),
    "a folder for a table": Bad(4, ".: this is a folder. Name the files in it.", command=("run", ".")),
    "a file of predictions that is not there": Bad(
        4, "chat.csv: there is no such file. Check the name.", command=("score", "chat.csv"),
    ),
    "a column of predictions that is not there": Bad(
        4, 'chats.csv: column "sumary" is not in this file; it has dialogue, summary, mood. Did you mean "summary"?',
        command=("score", "chats.csv", "--reference", "sumary", "--prediction", "mood"),
    ),
    "predictions before training": Bad(
        1, 'candidate "two-shot" is not tuned yet. `tunesmith train` does that, or `tunesmith run` all.',
        sets=("candidates.two-shot={method: lora}",), command=("predict", "recipe.yaml"),
    ),
}  # fmt: skip
MODELS = {
    "a context without room for a prompt": Bad(
        3, "tasks.summarize.max_new_tokens: 2000 leaves no room for a prompt, the model's context is 1024 tokens. "
        "Lower it.",
        sets=("tasks.0.max_new_tokens=2000",),
    ),
    "a rank larger than a layer": Bad(
        3, "recipe.yaml:18: candidates.lora: lora: rank 100 is larger than the layer model.layers.0.self_attn.q_proj "
        "(64 x 64), and 13 more. Take a rank of at most 32.",
        edit=("rank: 2", "rank: 100"), command=("train", "recipe.yaml"),
    ),
    "an unknown target": Bad(
        3, 'recipe.yaml:18: candidates.lora: lora: no linear layer is called "query"; this model has '
        "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj.",
        edit=("rank: 2", "rank: 2, targets: [query]"), command=("train", "recipe.yaml"),
    ),
}  # fmt: skip


def check(bad: Bad, tunesmith: Command, *, notes: tuple[str, ...] = ("data: ", "plan: ", "zero-shot ")) -> None:
    """Run it and compare all that is said, leaving out notes on steps that went well."""
    recipe = Path("recipe.yaml")
    before, after = bad.edit
    text = recipe.read_text(encoding="utf-8")
    assert before in text
    recipe.write_text(text.replace(before, after), encoding="utf-8")
    for name, content in bad.files:
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    found = tunesmith(*bad.command, *(part for text in bad.sets for part in ("--set", text)))
    said = [line for line in found.err.splitlines() if not line.startswith(notes)]
    wanted = [bad.says] if isinstance(bad.says, str) else bad.says
    for word, shown in {**KNOWN, "HERE": str(Path.cwd())}.items():
        wanted = [line.replace(word, shown) for line in wanted]
    assert said == [f"tunesmith: {line}" for line in wanted]
    assert found.out == ""
    assert found.code == bad.code


@pytest.mark.parametrize("bad", RECIPES.values(), ids=RECIPES.keys())
def test_a_recipe_that_cannot_be(bad: Bad, small: Path, tunesmith: Command) -> None:
    if bad is RECIPES["several things at once"]:
        text = small.read_text(encoding="utf-8").replace("name: chats\n", "name: ../chats\n")
        small.write_text(text.replace("epochs: 1", "epochs: 1, clip: -1"), encoding="utf-8")
    check(bad, tunesmith, notes=())
    assert not Path("runs").exists()


@pytest.mark.parametrize("bad", DATA.values(), ids=DATA.keys())
def test_data_that_cannot_be_used(bad: Bad, small: Path, tunesmith: Command) -> None:
    check(bad, tunesmith)


@pytest.mark.parametrize("bad", MODELS.values(), ids=MODELS.keys())
def test_what_the_model_cannot_do(bad: Bad, small: Path, tunesmith: Command) -> None:
    check(bad, tunesmith, notes=("data: ", "plan: ", "lora: lora trains "))


def test_a_number_in_scientific_notation_is_a_number(small: Path, tunesmith: Command) -> None:
    text = small.read_text(encoding="utf-8").replace("epochs: 1,", "epochs: 1, learning_rate: 1e-4,")
    small.write_text(text, encoding="utf-8")
    assert tunesmith("check", small).code == 0
    assert '"learning_rate": 0.0001,' in Path("runs/chats/recipe.json").read_text(encoding="utf-8")


class TestBadRows:
    def test_a_broken_row_stops_the_run_and_is_named(self, small: Path, tunesmith: Command) -> None:
        with Path("chats.csv").open("a", encoding="utf-8") as table:
            table.write("only one cell\n")
        found = tunesmith("run", small)
        allowed = "1 of 33 rows (3.0%) cannot be used; 1.0% may be set aside."
        assert (found.code, found.out) == (4, "")
        assert found.err.splitlines() == [
            f'tunesmith: task "summarize": {allowed}',
            "tunesmith: chats.csv:34: 1 field, the header has 3: only one cell",
            "tunesmith: Mend these rows, or set them aside with `data.allow_bad: 0.04` in the recipe.",
            f'tunesmith: task "mood": {allowed}',
        ]

    def test_it_is_set_aside_by_name_where_that_is_allowed(self, small: Path, tunesmith: Command) -> None:
        with Path("chats.csv").open("a", encoding="utf-8") as table:
            table.write("only one cell\n")
        found = tunesmith("check", small, "--set", "data.allow_bad=0.04")
        assert found.code == 0
        assert found.out.count("  chats.csv:34: 1 field, the header has 3: only one cell\n") == 2

    def test_rows_whose_prompt_is_empty_are_named(self, small: Path, tunesmith: Command) -> None:
        write_table(Path("chats.csv"), rows=[*chats(), ("  ", "A summary.", "good"), ("Customer: hi", "Hi.", "good")])
        own = "tasks=[{name: a, source: chats.csv, template: {prompt: \"{{ dialogue | replace('Customer: hi', '') }}\""
        found = tunesmith("run", small, "--set", own + ', target: "{{ summary }}"}}]')
        assert (found.code, found.out) == (4, "")
        assert found.err.splitlines() == [
            'tunesmith: task "a": 1 of 34 rows (2.9%) cannot be used; 1.0% may be set aside.',
            'tunesmith: chats.csv:34: column "dialogue" is empty: {"dialogue": " ", "summary": "A summary.", "mood": '
            '"good"}',
            "tunesmith: Mend these rows, or set them aside with `data.allow_bad: 0.03` in the recipe.",
        ]
        found = tunesmith("run", small, "--set", own + ', target: "{{ summary }}"}}]', "--set", "data.allow_bad=0.03")
        assert found.code == 4
        assert found.err.splitlines() == [
            'tunesmith: task "a": 2 of 34 rows (5.9%) cannot be used; 3.0% may be set aside.',
            'tunesmith: chats.csv:34: column "dialogue" is empty: {"dialogue": " ", "summary": "A summary.", "mood": '
            '"good"}',
            'tunesmith: chats.csv:35: the prompt is empty: {"dialogue": "Customer: hi", "summary": "Hi.", "mood": '
            '"good"}',
            "tunesmith: Mend these rows, or set them aside with `data.allow_bad: 0.06` in the recipe.",
        ]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def rename(path: Path) -> None:
    path.rename(path.with_name("pytorch_model.bin"))


WEIGHTS: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "no weights": (
        lambda path: path.unlink(), 3,
        "--set: model: HERE/model has no weights (*.safetensors). Copy them there or name another model.",
    ),
    "pickled weights": (
        rename, 6,
        "model: HERE/model has only pickled weights (pytorch_model.bin), which can run foreign code. Load them once "
        "where you trust them and save them with save_pretrained, which writes safetensors.",
    ),
    "damaged weights": (
        cut, 3,
        "--set: model: the weights in HERE/model are damaged: Error while deserializing header: invalid header length. "
        "Copy or fetch them again.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "code", "says"), WEIGHTS.values(), ids=WEIGHTS.keys())
def test_a_model_folder_that_cannot_be_loaded(
    spoil: Callable[[Path], None], code: int, says: str, small: Path, tunesmith: Command, tiny_causal: Path
) -> None:
    shutil.copytree(tiny_causal, "model")
    spoil(Path("model/model.safetensors"))
    check(Bad(code, says, sets=("model=model",)), tunesmith)


class TestTooSmall:
    """Contexts and limits into which nothing fits."""

    def test_prompts_that_do_not_fit_beside_the_answer(self, small: Path, tunesmith: Command) -> None:
        found = tunesmith("run", small, "--set", "tasks.0.max_new_tokens=1020")
        assert (found.code, found.out) == (4, "")
        assert found.err.splitlines()[-1] == (
            "tunesmith: 4 prompts do not fit: the room for a prompt is 4 tokens (summarize/test/chats.csv:4, "
            "summarize/test/chats.csv:6, summarize/test/chats.csv:11 and 1 more). Raise train.max_tokens, or lower "
            "max_new_tokens if the model's context is too small for its template and the answer."
        )

    def test_targets_that_do_not_fit_beside_the_template(self, small: Path, tunesmith: Command) -> None:
        found = tunesmith("train", small, "--set", "train.max_tokens=8")
        assert (found.code, found.out) == (4, "")
        assert found.err.splitlines()[-1] == (
            "tunesmith: there is nothing to train on: none of the 44 train examples has a target that fits beside its "
            "prompt into 8 tokens (summarize/train/chats.csv:2, summarize/train/chats.csv:5, "
            "summarize/train/chats.csv:8 and 41 more). Raise train.max_tokens or shorten the targets."
        )


class TestTheMachine:
    """Memory, disk and rights that are not enough."""

    def test_too_little_disk(self, small: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000))
        assert tunesmith("run", small) == (
            5, "", "tunesmith: runs/chats: a run folder needs 50 MB, the disk has 10 MB free. Free some, or point "
            "TUNESMITH_HOME (models) or --out (runs) at another disk.\n",
        )  # fmt: skip

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_disk_that_fills_up(
        self, small: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        def full(*_: Any) -> None:
            raise OSError(number, os.strerror(number), "runs/chats/data/train.jsonl")

        monkeypatch.setattr("tunesmith.pipeline.write_records", full)
        found = tunesmith("run", small)
        assert (found.code, found.out) == (5, "")
        assert found.err == (
            "tunesmith: runs/chats/data/train.jsonl: the disk is full. Free some space. Then run the same command "
            "again.\n"
        )

    def test_a_name_that_is_too_long(self, small: Path, tunesmith: Command) -> None:
        name = "x" * 300 + ".yaml"
        says = f"{name}: this name is longer than the disk takes. Give a shorter one. Then run the same command again."
        assert tunesmith("check", name) == (5, "", f"tunesmith: {says}\n")
        assert tunesmith("init", "chats.csv", "--out", name) == (5, "", f"tunesmith: {says}\n")

    @pytest.mark.parametrize(
        ("number", "says"),
        [
            (errno.ENOENT, "there is no such place, and none can be made. Look at the name."),
            (errno.EIO, "the disk does not answer as it should. Look at it, or take another."),
        ],
    )
    def test_a_place_where_nothing_can_be_made(
        self, small: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch, number: int, says: str
    ) -> None:
        def fails(*_: Any) -> None:
            raise OSError(number, os.strerror(number), "/proc/x.yaml")

        monkeypatch.setattr("tunesmith.starting.write_text", fails)
        assert tunesmith("init", "chats.csv") == (
            5, "", f"tunesmith: /proc/x.yaml: {says} Then run the same command again.\n"
        )  # fmt: skip

    def test_a_folder_that_may_not_be_made(
        self, small: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def forbidden(*_: Any, **__: Any) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", forbidden)
        assert tunesmith("run", small) == (
            5, "", "tunesmith: runs/chats: nothing can be written there: Permission denied. Give --out another "
            "folder.\n",
        )  # fmt: skip

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_may_not_be_written(self, small: Path, tunesmith: Command) -> None:
        Path("runs/chats/data").mkdir(parents=True)
        Path("runs/chats/data").chmod(0o500)
        found = tunesmith("check", small)
        assert (found.code, found.out) == (5, "")
        assert "nothing can be written there. Change the rights or the place." in found.err


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes")])
def test_memory_that_runs_out_on_the_way(
    small: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def raises(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("tunesmith.pipeline.prepare", raises)
    assert tunesmith("run", small) == (
        5, "", "tunesmith: there is not enough memory. Lower train.tokens_per_batch or generate.tokens_per_batch, or "
        "choose a method that trains fewer weights.\n",
    )  # fmt: skip


def test_a_bug_of_ours_keeps_its_traceback(small: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: Any, **__: Any) -> None:
        raise RuntimeError("this is a bug")

    monkeypatch.setattr("tunesmith.pipeline.prepare", raises)
    with pytest.raises(RuntimeError, match="this is a bug"):
        tunesmith("run", small)


def test_control_characters_of_a_file_do_not_reach_the_terminal(small: Path, tunesmith: Command) -> None:
    write_table(Path("chats.csv"), header=("dialogue", "\x1b[31mred", "mood"))
    found = tunesmith("run", small)
    assert found.code == 4
    assert "it has \\x1b[31mred, dialogue, mood." in found.err
    assert "\x1b" not in found.err


def test_a_process_says_it_the_same_way(small: Path, tmp_path: Path) -> None:
    process = as_process("run", small, "--set", "trian=1", folder=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (3, "")
    assert err == (
        f'tunesmith: --set: trian: there is no such key. Did you mean "train"? Known here: {KNOWN["RECIPE KEYS"]}.\n'
    )

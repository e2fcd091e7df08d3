import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
from pathlib import Path

import pytest
from small_run import Command, as_process, write_small

from tunesmith import __version__

COMMANDS = (
    "run", "init", "check", "show", "plan", "train", "predict", "score", "report", "export", "bench", "ls", "pull",
    "doctor",
)  # fmt: skip
ANSI = re.compile(r"\x1b")


class TestUsage:
    def test_the_version(self, tunesmith: Command) -> None:
        assert tunesmith("--version") == (0, f"{__version__}\n", "")

    def test_help_names_every_command(self, tunesmith: Command) -> None:
        found = tunesmith("--help")
        assert (found.code, found.err) == (0, "")
        listed = re.findall(r"^  ([a-z]+)  ", found.out.partition("Commands:")[2], re.MULTILINE)
        assert tuple(listed[: len(COMMANDS)]) == COMMANDS

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_explains_itself(self, tunesmith: Command, command: str) -> None:
        found = tunesmith(command, "--help")
        assert (found.code, found.err) == (0, "")
        assert found.out.startswith(f"Usage: tunesmith {command} ")
        assert "--quiet" in found.out

    def test_no_command_is_help_and_no_success(self, tunesmith: Command) -> None:
        found = tunesmith()
        assert (found.code, found.out) == (2, "")
        assert found.err.startswith("Usage: tunesmith [OPTIONS] COMMAND [ARGS]...")

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (("tran",), "No such command 'tran'. Did you mean 'train'?"),
            (("nope",), "No such command 'nope'."),
            (("run",), "Missing argument 'RECIPE or TABLE'."),
            (("check",), "Missing argument 'RECIPE'."),
            (("run", "a.yaml", "b.yaml"), "Got unexpected extra argument(s) (b.yaml)"),
            (
                ("show", "a.yaml", "-n", "abc"),
                "Invalid value for '-n': \"abc\" is no whole number. Write it in digits.",
            ),
            (("train", "a.yaml", "--json"), "No such option: --json"),
        ],
    )
    def test_a_wrong_call_is_usage(self, tunesmith: Command, arguments: tuple[str, ...], error: str) -> None:
        found = tunesmith(*arguments)
        assert (found.code, found.out) == (2, "")
        assert "--help' for help." in found.err
        assert f"\nError: {error}" in found.err
        assert "Traceback" not in found.err


class TestSteps:
    """One step alone, and what each prints."""

    def test_check_prints_what_became_of_the_rows(self, small: Path, tunesmith: Command) -> None:
        assert tunesmith("check", small, "--quiet") == (
            0,
            "64 rows read from chats.csv\n  train       44\n  validation  12\n  test        8\n32 groups; 0 rows "
            "repeat another of their split\n0 rows set aside\n0 leaks\n",
            "",
        )

    def test_check_names_leaks(self, small: Path, tunesmith: Command) -> None:
        found = tunesmith("check", small, "--set", "data.leak_similarity=0.2", "--set", "data.leaks=keep")
        assert re.search(
            r"^  mood/train/chats\.csv:\d+ is like \S+/chats\.csv:\d+ \(0\.\d\d\)$", found.out, re.MULTILINE
        )

    def test_check_refuses_what_a_method_cannot_have_before_any_row_is_read(
        self, small: Path, tunesmith: Command
    ) -> None:
        found = tunesmith("check", small, "--set", "candidates.soft={method: soft-prompt, train: {average: 0.5}}")
        assert (found.code, found.out) == (3, "")
        assert found.err.startswith(
            "tunesmith: --set: candidates.soft: train.average: what soft-prompt learns is no change of "
        )
        assert len(found.err.splitlines()) == 1

    def test_check_refuses_what_the_model_cannot_take(self, small: Path, tunesmith: Command) -> None:
        found = tunesmith("check", small, "--set", "candidates.low={method: lora, rank: 900, targets: [nowhere]}")
        assert (found.code, found.out) == (3, "")
        said = 'tunesmith: --set: candidates.low: lora: no linear layer is called "nowhere"; this model has '
        assert said in found.err

    def test_check_fetches_no_model_and_says_when_methods_are_checked(
        self, small: Path, tunesmith: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "empty"))
        found = tunesmith("check", small, "--set", "model=smollm2-135m-instruct", "--out", str(tmp_path / "run"))
        assert found.code == 0
        assert found.err.splitlines()[-1] == (
            "check: smollm2-135m-instruct is not here yet. Whether it takes the methods is said by `plan` and `run`."
        )
        assert not (tmp_path / "empty" / "models").exists()

    def test_check_as_json(self, small: Path, tunesmith: Command) -> None:
        found = json.loads(tunesmith("check", small, "--json").out)
        assert found["schema"] == 1
        assert found["rows_per_split"] == {"train": 44, "validation": 12, "test": 8}

    def test_plan_prints_what_each_candidate_takes_and_what_would_fit(self, small: Path, tunesmith: Command) -> None:
        found = tunesmith("plan", small, "--quiet")
        assert (found.code, found.err) == (0, "")
        lines = found.out.splitlines()
        assert lines[0].split()[:3] == ["candidate", "trainable", "training"]
        assert [line.split()[0] for line in lines[1:5]] == ["zero-shot", "two-shot", "lora", "full"]
        assert "memory by part" in found.out
        assert re.search(r"^All together .+; .+ are free beside the program\. Measured on this machine on 20\d\d-",
                         found.out, re.MULTILINE)  # fmt: skip
        assert re.search(r"^method +tokens +1 at once +2 at once", found.out, re.MULTILINE)
        assert not Path("runs/chats/candidates").exists(), "nothing was trained or answered"
        assert not Path("runs/chats/plan.json").exists()

    def test_plan_as_json(self, small: Path, tunesmith: Command) -> None:
        found = json.loads(tunesmith("plan", small, "--json").out)
        assert found["schema"] == 1
        assert [one["name"] for one in found["candidates"]] == ["zero-shot", "two-shot", "lora", "full"]
        lora = found["candidates"][2]
        assert lora["train"]["peak"] == sum(lora["train"]["parts"].values())
        assert set(lora["train"]["parts"]) <= set(found["parts"])
        assert {one["method"] for one in found["fits"]} >= {"full", "lora"}

    def test_run_says_and_keeps_its_plan_and_reports_it_beside_what_was_measured(
        self, small: Path, tunesmith: Command
    ) -> None:
        sets = ("--set", "train.max_steps=1", "--set", "candidates.full={method: none}")
        first = tunesmith("run", small, *sets)
        assert re.search(
            r"^plan: about .+ and at most .+B of memory; `tunesmith plan` says more$", first.err, re.MULTILINE
        )
        report = json.loads(Path("runs/chats/report.json").read_text(encoding="utf-8"))
        plans = {one["name"]: one["plan"] for one in report["candidates"]}
        assert set(plans) == {"zero-shot", "two-shot", "lora", "full"}
        assert plans["lora"]["train"]["steps"] == 1
        assert "<h3>Plan and reality</h3>" in Path("runs/chats/report.html").read_text(encoding="utf-8")
        again = tunesmith("run", small, *sets)
        assert "plan: " not in again.err, "there is nothing left to plan"

    def test_a_run_that_cannot_be_planned_goes_on(
        self, small: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tunesmith.errors import ResourceError
        from tunesmith.planning import plan

        def fail(*arguments: object, **options: object) -> None:
            raise ResourceError("plan: the calibration did not succeed: it was ended from outside.")

        monkeypatch.setattr(plan, "make_plan", fail)
        sets = ("--set", "candidates={lora: {method: lora, rank: 2}}", "--set", "train.max_steps=1")
        found = tunesmith("run", small, *sets)
        assert found.code == 0
        assert "it was ended from outside. The run goes on without a plan.\n" in found.err
        assert not Path("runs/chats/plan.json").exists()

    def test_a_training_that_does_not_fit_is_refused_before_the_model_is_loaded(
        self, small: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tunesmith import machine

        monkeypatch.setattr(machine, "available_memory", lambda: 1000)
        found = tunesmith("train", small)
        assert found.code == 5
        assert "training lora needs about 0.0 GB of memory, this machine has 0.0 GB free. Take a smaller" in found.err
        assert not Path("runs/chats/candidates/lora/train.jsonl").exists()

    def test_a_report_needs_a_run(self, small: Path, tunesmith: Command) -> None:
        assert tunesmith("report", small, "--out", "runs/typo") == (
            2, "", "tunesmith: runs/typo: there is no run in this folder. Give --out the folder of one, or run it "
            "first.\n",
        )  # fmt: skip
        assert not Path("runs").exists()

    def test_train_then_predict_then_report(self, small: Path, tunesmith: Command) -> None:
        sets = ("--set", "train.max_steps=1", "--set", "candidates.full={method: none}")
        trained = tunesmith("train", small, *sets)
        assert (trained.code, trained.out) == (0, "")
        assert Path("runs/chats/candidates/lora/train.json").is_file()
        assert not Path("runs/chats/candidates/lora/predict.json").exists()

        early = tunesmith("predict", small, *sets, "--set", "candidates.other={method: lora, rank: 4}")
        assert early.code == 1
        assert early.err.endswith(
            'tunesmith: candidate "other" is not tuned yet. `tunesmith train` does that, or `tunesmith run` all.\n'
        )
        assert not list(Path("runs/chats/candidates").glob("*/predict.json"))

        unfinished = tunesmith("report", small, *sets)
        assert unfinished.code == 0
        assert "lora is not finished: answering is not finished; " in unfinished.out

        predicted = tunesmith("predict", small, *sets)
        assert (predicted.code, predicted.out) == (0, "")
        assert Path("runs/chats/candidates/lora/predict.json").is_file()
        assert not Path("runs/chats/candidates/lora/scores").exists()

        reported = tunesmith("report", small, *sets)
        assert (reported.code, reported.err) == (0, "")
        assert "not finished" not in reported.out
        assert reported.out == tunesmith("run", small, *sets).out

    def test_run_as_json_is_the_report(self, finished: Path, tunesmith: Command) -> None:
        found = tunesmith("run", finished, "--json")
        assert json.loads(found.out) == json.loads(Path("runs/chats/report.json").read_text(encoding="utf-8"))
        assert json.loads(found.out)["schema"] == 1
        assert found.err == ""

    def test_run_prints_nothing_but_the_tables(self, finished: Path, tunesmith: Command) -> None:
        lines = tunesmith("run", finished).out.splitlines()
        assert [line for line in lines if line in ("summarize", "mood")] == ["summarize", "mood"]
        with_memory = [line for line in lines if " MB" in line or " GB" in line]  # of the whole process
        assert [line.split()[0] for line in with_memory] == ["zero-shot", "two-shot", "lora", "full"] * 2
        assert not [line for line in lines if line != line.rstrip()]

    def test_pull_prints_the_folder(self, tunesmith: Command, tiny_causal: Path) -> None:
        assert tunesmith("pull", tiny_causal) == (0, f"{tiny_causal.resolve()}\n", "")


class TestScore:
    @pytest.fixture
    def answers(self, tmp_path: Path) -> Path:
        path = tmp_path / "answers.csv"
        path.write_text(
            "reference,ours,theirs\nthe cat sat,the cat sat,a dog\na b c,,a b c\nx y,x y,x\n", encoding="utf-8"
        )
        return path

    def test_a_file_of_answers(self, answers: Path, tunesmith: Command) -> None:
        found = tunesmith("score", answers, "--prediction", "ours", "--metric", "rouge1")
        assert (found.code, found.err) == (0, "")
        assert found.out.splitlines()[:3] == [
            "Guessed from the names: reference = reference.",
            "prediction  metric  value   95 % interval  unit           n  empty",
            "ours        rouge1  66.67  0.00 to 100.00  points of 100  3      1",
        ]

    def test_two_columns_are_compared_in_whole_lines(self, answers: Path, tunesmith: Command) -> None:
        found = tunesmith("score", answers, "--prediction", "ours", "--prediction", "theirs", "--metric", "rouge1")
        assert [line for line in found.out.splitlines() if "ours and theirs" in line and line.endswith("n = 3).")]

    def test_as_json(self, answers: Path, tunesmith: Command) -> None:
        found = json.loads(tunesmith("score", answers, "--prediction", "ours", "--metric", "rouge1", "--json").out)
        assert found["schema"] == 1
        assert [sheet["scores"][0]["n_empty"] for sheet in found["sheets"]] == [1]

    def test_it_needs_no_torch(self, answers: Path, tmp_path: Path) -> None:
        (tmp_path / "torch.py").write_text("raise SystemError('torch was imported')", encoding="utf-8")
        process = as_process("score", answers, "--prediction", "ours", folder=tmp_path)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, tiny_causal: Path) -> tuple[int, str, str]:
    """A whole run in a process of its own, into pipes."""
    folder = tmp_path_factory.mktemp("fresh")
    recipe = write_small(folder, tiny_causal)
    surroundings = {"NO_COLOR": "", "PYTHONWARNINGS": ""}
    process = as_process("run", recipe, "--set", "candidates.full.train.max_steps=1", folder=folder, **surroundings)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


class TestHygiene:
    """Data on stdout, the rest on stderr; no colours, bars or warnings where nobody looks."""

    def test_a_whole_run_says_nothing_that_is_not_ours(self, fresh: tuple[int, str, str]) -> None:
        code, _, err = fresh
        ours = (
            "data: ", "plan: ", "zero-shot answers ", "zero-shot ranks ", "two-shot answers ", "two-shot ranks ",
            "lora answers ", "lora ranks ", "full answers ", "full ranks ", "lora: lora trains ",
            "full: full trains ", "training ",
        )  # fmt: skip
        assert code == 0
        assert [line for line in err.splitlines() if not line.startswith(ours)] == []

    def test_a_pipe_gets_neither_colours_nor_bars(self, fresh: tuple[int, str, str]) -> None:
        _, out, err = fresh
        assert not ANSI.search(out + err)
        assert "\r" not in out + err
        assert out.startswith("summarize: ")

    def test_quiet_says_nothing_but_the_result(self, small: Path, tunesmith: Command) -> None:
        sets = ("--set", "train.max_steps=1", "--set", "candidates.full={method: none}")
        found = tunesmith("run", small, "--quiet", *sets)
        assert (found.code, found.err) == (0, "")
        assert found.out.startswith("summarize: ")

    def test_a_reader_that_goes_away_is_no_error_of_ours(self, tmp_path: Path) -> None:
        process = as_process("ls", "metrics", folder=tmp_path)
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        with process.stderr as said:
            assert said.read() == ""
        assert process.wait(timeout=60) == 141

    def test_a_letter_that_the_terminal_cannot_show_is_no_error(self, finished: Path, tmp_path: Path) -> None:
        process = as_process("show", finished, "-n", "1", folder=tmp_path, PYTHONIOENCODING="ascii")
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert "\\u27e6The" in out

    @pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
    def test_colours_are_for_terminals_that_want_them(self, tmp_path: Path, no_color: str, coloured: bool) -> None:
        (tmp_path / "answers.csv").write_text("reference,prediction\na b,a b\nc d,c\n", encoding="utf-8")
        surroundings = {"NO_COLOR": no_color, "TERM": "xterm-256color", "COLUMNS": "", "LINES": ""}
        shown = on_terminal("score", "answers.csv", "--metric", "rouge1", folder=tmp_path, **surroundings)
        assert "rouge1" in shown
        assert bool(ANSI.search(shown)) == coloured


def on_terminal(*arguments: str, folder: Path, **surroundings: str) -> str:
    """Run a command on a terminal of a hundred columns and return all that it shows."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        source = str(Path(__file__).parents[1] / "src")
        environment = {**os.environ, "PYTHONPATH": source, **surroundings}
        os.execve(sys.executable, [sys.executable, "-m", "tunesmith", *arguments], environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    shown = b""
    while select.select([terminal], [], [], 60)[0]:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the child has closed its side
            break
    assert os.waitpid(child, 0)[1] == 0, shown.decode()
    os.close(terminal)
    return shown.decode()


def test_doctor_tells_what_this_machine_is(tunesmith: Command) -> None:
    words = [line.split() for line in tunesmith("doctor").out.splitlines()]
    assert ["tunesmith", __version__] in words
    found = json.loads(tunesmith("doctor", "--json").out)
    assert found["schema"] == 1
    assert found["python"] == sys.version.split()[0]
    assert found["memory free"].endswith(" GB")


@pytest.mark.parametrize("what", ["models", "methods", "templates", "metrics", "runs"])
def test_ls_prints_a_line_or_an_object_for_each_thing(finished: Path, tunesmith: Command, what: str) -> None:
    lines = tunesmith("ls", what).out.splitlines()
    found = json.loads(tunesmith("ls", what, "--json").out)
    assert found["schema"] == 1
    assert [line.split()[0] for line in lines] == [thing["name"] for thing in found[what]]
    assert all(thing["about"] for thing in found[what])


def test_init_prints_the_recipe_that_it_wrote(small: Path, tunesmith: Command) -> None:
    assert tunesmith("init", "chats.csv") == (
        0, "chats.yaml\n", "chats.yaml: written; template dialogue-summary\n"
    )  # fmt: skip
    assert tunesmith("init", "chats.csv", "--out", "other.yaml", "--quiet") == (0, "other.yaml\n", "")
    assert tunesmith("init", "chats.csv") == (
        2, "", "tunesmith: chats.yaml: this file is there already. Give --out another name, or delete it.\n"
    )  # fmt: skip

"""What docs/metrics.md says holds."""

import doctest
import json
import re
from pathlib import Path

from tunesmith.data.perturb import KINDS
from tunesmith.metrics.files import score_file
from tunesmith.metrics.scoring import GROUPS
from tunesmith.registry import METRICS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"


def test_the_examples_of_the_page_give_what_it_prints() -> None:
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.attempted >= 8
    assert found.failed == 0


def test_the_examples_of_the_page_of_measures_give_what_it_prints() -> None:
    found = doctest.testfile(str(PAGE.with_name("measures.md")), module_relative=False)
    assert found.attempted >= 10
    assert found.failed == 0


def test_the_page_of_measures_names_every_kind_of_perturbation() -> None:
    page = PAGE.with_name("measures.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (robustness|fairness) \| `([a-z-]+)` \|", page, re.MULTILINE)
    assert rows == [(family, kind) for family, kinds in KINDS.items() for kind in kinds]


def test_the_page_has_every_metric_and_no_other() -> None:
    page = PAGE.read_text(encoding="utf-8")
    table = page[page.index("| name |") : page.index("`rouge` stands for")]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`([^`]+)`", row)}
    known = {re.sub(r"^rouge(\d|L|Lsum)-", "rouge1-", name) for name in METRICS}  # "also for rouge2, rougeL, rougeLsum"
    assert named - {"rouge2"} == known - {f"rouge{size}" for size in range(2, 9)}
    assert all(f"`{group}`" in page for group in GROUPS)


def test_the_speed_on_the_page_is_the_measured_one() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "metric_speed.json").read_text(encoding="utf-8"))
    measured = result["found"]["1, 2, L and Lsum, stemmed"]["times faster"]
    assert measured >= result["goal"]["1, 2, L and Lsum, stemmed"]
    assert f"{int(measured)} times\nfaster" in PAGE.read_text(encoding="utf-8")


def test_the_python_of_the_page_runs_with_the_name_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("summary,base_pred,tuned_pred\n" + "".join(f"text {k},none,text {k}\n" for k in range(8)))
    found = score_file(str(path), references=["summary"])
    assert found.sheets[1].scores[0].value == 100.0
    assert found.comparisons[0].sentence.startswith("tuned_pred beats base_pred by 100.0 ROUGE-1 points")

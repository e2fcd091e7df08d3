from pathlib import Path

import pytest

from tunesmith.errors import ResourceError, UsageError
from tunesmith.suites import catalog
from tunesmith.suites.catalog import SUITES, choose, harness_version, task_files


def test_without_the_harness_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: str) -> str:
        raise catalog.PackageNotFoundError

    monkeypatch.setattr(catalog, "version", gone)
    with pytest.raises(ResourceError) as error:
        harness_version()
    assert error.value.problems == (
        "benchmark suites need lm-evaluation-harness, which is not installed. In the folder of tunesmith's source: "
        "pip install -c constraints.txt '.[bench]'",
    )
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert f"\n{catalog.INSTALL}\n" in page


def test_an_unknown_suite_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError) as error:
        choose(["superglu"])
    assert error.value.problems == (
        '"superglu" is no suite. Did you mean "superglue"? Known: glue, superglue, mmlu, bbh, bbh-direct.',
    )


@pytest.mark.parametrize(
    ("suite", "tasks"), [("glue", 9), ("superglue", 8), ("mmlu", 57), ("bbh", 27), ("bbh-direct", 27)]
)
def test_the_harness_has_every_task_of_a_suite(suite: str, tasks: int) -> None:
    pytest.importorskip("lm_eval")
    assert len(task_files(SUITES[suite])) == tasks


def test_single_tasks_can_be_named() -> None:
    pytest.importorskip("lm_eval")
    whole, single = choose(["bbh", "superglue/boolq", "superglue/rte", "superglue/boolq"])
    assert (whole.suite.name, whole.whole, len(whole.tasks)) == ("bbh", True, 27)
    assert (single.suite.name, single.whole, single.tasks) == ("superglue", False, ("boolq", "rte"))
    with pytest.raises(UsageError, match=r'superglue has no task "boolqq"\. Did you mean "boolq"\?'):
        choose(["superglue/boolqq"])

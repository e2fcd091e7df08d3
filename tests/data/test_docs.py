import re
from pathlib import Path

import pytest

from tunesmith.data.templates import list_templates, load_template
from tunesmith.settings import TaskSettings

DOCS = Path(__file__).parents[2] / "docs"


def snippet(page: str) -> str:
    found = re.search(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_snippet_about_data_runs(capsys: pytest.CaptureFixture[str]):
    exec(snippet("data.md"), {})
    shown = capsys.readouterr().out
    assert shown.startswith("{'train': ")
    assert "Customer: " in shown


def test_the_snippet_about_templates_runs(capsys: pytest.CaptureFixture[str]):
    exec(snippet("templates.md"), {})
    assert capsys.readouterr().out == (
        "['What is the capital of Peru?']\n[Target(phrasing=0, text='Lima', references=('Lima',))]\n"
    )


def test_the_page_about_templates_lists_the_catalog():
    page = (DOCS / "templates.md").read_text("utf-8")
    for entry in list_templates():
        needs = ", ".join(load_template(TaskSettings(source="x", template=entry.name)).columns)
        row = re.search(rf"\| `{entry.name}` \| ([a-z, ]+)", page)
        assert row is not None, entry.name
        assert set(needs.split(", ")) <= set(re.split(r",? +", row[1]))

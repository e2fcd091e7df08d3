import re
from pathlib import Path

import pytest

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

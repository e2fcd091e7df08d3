"""Write a report as one HTML file that asks the network for nothing.

The page holds its style, its one script and its data. A Content-Security-Policy lets the browser use exactly that
style and that script, by their hashes, so text of a model or of a data set could not run even if it were not escaped.
"""

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tunesmith import wording
from tunesmith.metrics.comparison import title
from tunesmith.reporting.benched import bench_view
from tunesmith.reporting.beyond_view import beyond_view
from tunesmith.reporting.browser import browser_json
from tunesmith.reporting.charts import figure, marker, slot_class
from tunesmith.reporting.contents import Report
from tunesmith.reporting.figures import interval_bar, share_bar
from tunesmith.reporting.forgotten_view import forgetting_view
from tunesmith.reporting.in_turn_view import in_turn_view
from tunesmith.reporting.planned import plan_rows
from tunesmith.reporting.side_by_side import COSTS
from tunesmith.reporting.views import task_view, training_figures
from tunesmith.rundir import write_text

TEMPLATES = Path(__file__).parent / "templates"
LIST_LIMIT = 200
"""Rows of a long list (leaks, rows set aside) that the page shows; report.json has them all."""


def write_html(report: Report, path: Path) -> None:
    """Write the page of ``report`` to ``path``; the file has its old content or its new one, never half of it."""
    write_text(path, render(report))


def render(report: Report) -> str:
    """Return the page of ``report`` as HTML text."""
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            tasks=[task_view(report, task) for task in report.tasks],
            beyond=[view for task in report.tasks if (view := beyond_view(report, task))],
            benchmarks=[bench_view(result) for result in report.benchmarks],
            training=training_figures(report),
            plan=plan_rows(report),
            forgetting=forgetting_view(report),
            in_turn=in_turn_view(report),
            slots={candidate.name: slot for slot, candidate in enumerate(report.candidates)},
            costs=COSTS,
            limit=LIST_LIMIT,
            policy=policy,
            style=Markup(style),
            script=Markup(script),
            data=Markup(browser_json(report)),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("count", "size", "duration", "fixed", "signed", "probability", "share", "times")
    environment.filters.update({name: getattr(wording, name) for name in names})
    environment.filters["title_of"] = title
    environment.globals.update(
        interval_bar=interval_bar, share_bar=share_bar, swatch=_swatch, slot_class=slot_class, NONE=wording.NONE
    )
    return environment


def _swatch(slot: int) -> Markup:
    """Return the sign of a candidate for use within text."""
    return figure([marker(slot, 6, 6, 4.5)], label="", height=12, width=12)


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"

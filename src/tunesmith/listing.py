"""What there is to choose from, and what this machine is."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tunesmith.data.rendering import Target, render_prompts, render_targets
from tunesmith.data.rows import Row
from tunesmith.data.shots import joined
from tunesmith.data.templates import CatalogTemplate, count_forms, list_templates, ready
from tunesmith.errors import UsageError, did_you_mean
from tunesmith.registry import METHODS, METRICS, resolve

BETTER = {"higher": "higher is better", "lower": "lower is better", "neither": "neither end is better"}
KINDS = ("models", "methods", "templates", "metrics", "suites", "runs")


def listing(what: str) -> list[dict[str, Any]]:
    """Return one row, with at least name and about, for each thing of a kind."""
    if what == "models":
        from tunesmith.models.catalog import CATALOG

        return [
            {"name": name, "about": f"{known.parameters / 1e6:.0f} million parameters, {known.licence}: {known.about}"}
            for name, known in CATALOG.items()
        ]
    if what == "methods":
        methods = [{"name": name, "about": resolve("method", name, METHODS).ABOUT} for name in METHODS]
        return [{"name": "none", "about": "the base model as it is, with or without shots"}, *methods]
    if what == "templates":
        return [_template_row(template) for template in list_templates()]
    if what == "metrics":
        found = [(name, resolve("metric", name, METRICS)) for name in METRICS]
        return [{"name": name, "about": f"{metric.unit}; {BETTER[metric.better]}"} for name, metric in found]
    if what == "suites":
        from tunesmith.suites.catalog import SUITES

        return [{"name": name, "about": suite.about} for name, suite in SUITES.items()]
    if what == "runs":
        return [
            {"name": path.parent.name, "about": str(path.parent)} for path in sorted(Path("runs").glob("*/run.json"))
        ]
    raise UsageError(f'ls: "{what}" cannot be listed.{did_you_mean(what, KINDS)} Known: {", ".join(KINDS)}.')


def _template_row(template: CatalogTemplate) -> dict[str, Any]:
    counts = count_forms(template.phrasings)
    said = ", ".join(f"{count} {form}" for form, count in counts.items())
    return {"name": template.name, "about": f"{said}: {template.about}", "phrasings": counts}


def show_template(entry: CatalogTemplate, console: Console, count: int | None = None) -> None:
    """Print the phrasings of a template on its sample row; answers stand out, without colours between ⟦ and ⟧.

    Args:
        entry: From the catalog.
        console: Where to.
        count: How many phrasings; None: all.
    """
    console.print(f"{entry.name}: {entry.about}")
    for name, meaning in entry.needs.items():
        console.print(f"  {name}: {meaning}", soft_wrap=True)
    template = ready(entry.name, entry, forms=tuple(count_forms(entry.phrasings)), trusted=True)
    rows = [(number, Row(entry.sample, "sample", 0)) for number in range(len(entry.phrasings))][:count]
    intros = render_prompts(template, rows, choices=entry.choices, part="intro")
    prompts = render_prompts(template, rows, choices=entry.choices)
    targets = render_targets(template, rows)
    for (number, _), intro, prompt, target in zip(rows, intros, prompts, targets, strict=True):
        phrasing = entry.phrasings[number]
        if not (isinstance(intro, str) and isinstance(prompt, str) and isinstance(target, Target)):
            raise ValueError(f"{entry.name}, phrasing {number + 1}: the sample does not render")
        title = f"{number + 1}: {phrasing.form}"
        if phrasing.form == "few-shot":
            title += ", here with the same row as its worked example"
            prompt = joined(phrasing, intro, [(prompt, target.text)], prompt)
        console.rule(title) if console.is_terminal else console.print(f"\n{title}")
        shown = Text(target.text, style="black on green") if console.color_system else Text(f"⟦{target.text}⟧")
        console.print(Text(prompt), Text("\n"), shown, sep="", soft_wrap=True)


def diagnose() -> dict[str, Any]:
    """Return the facts of this machine that decide what can be tuned on it, and how fast."""
    import torch

    from tunesmith.machine import compute_device, device_name, fastest_dtype, main_memory, processor_name
    from tunesmith.models.catalog import home
    from tunesmith.opening import package_versions

    return {
        "processor": processor_name(),
        "memory free": f"{main_memory() / 1e9:.1f} GB",
        "graphics cards": ", ".join(map(torch.cuda.get_device_name, range(torch.cuda.device_count()))) or "none",
        "models compute on": f"{compute_device()}: {device_name()}",
        "fastest number format": str(fastest_dtype()).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "python": sys.version.split()[0],
        **package_versions(),
        "models in": str(home()),
    }

"""What there is to choose from, and what this machine is."""

import sys
from pathlib import Path
from typing import Any

from tunesmith.errors import UsageError, did_you_mean
from tunesmith.registry import METHODS, METRICS, resolve

BETTER = {"higher": "higher is better", "lower": "lower is better", "neither": "neither end is better"}
KINDS = ("models", "methods", "templates", "metrics", "runs")


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
        from tunesmith.data.templates import list_templates

        return [{"name": template.name, "about": template.about} for template in list_templates()]
    if what == "metrics":
        found = [(name, resolve("metric", name, METRICS)) for name in METRICS]
        return [{"name": name, "about": f"{metric.unit}; {BETTER[metric.better]}"} for name, metric in found]
    if what == "runs":
        return [
            {"name": path.parent.name, "about": str(path.parent)} for path in sorted(Path("runs").glob("*/run.json"))
        ]
    raise UsageError(f'ls: "{what}" cannot be listed.{did_you_mean(what, KINDS)} Known: {", ".join(KINDS)}.')


def diagnose() -> dict[str, Any]:
    """Return the facts of this machine that decide what can be tuned on it, and how fast."""
    import torch

    from tunesmith.machine import available_memory, device_name, fastest_dtype
    from tunesmith.models.catalog import home
    from tunesmith.opening import package_versions

    return {
        "device": device_name(),
        "memory free": f"{available_memory() / 1e9:.1f} GB",
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "fastest number format": str(fastest_dtype()).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "python": sys.version.split()[0],
        **package_versions(),
        "models in": str(home()),
    }

"""What the sweeps of benchmarks/ have found, as tables for the pages. `generate.py` puts them there."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tunesmith.registry import METHODS
from tunesmith.wording import count, duration, fixed, share, signed, size

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
Table = Callable[[Sequence[str], Iterator[Sequence[str]]], str]

COSTS = ("learns", "on disk", "training", "highest memory")
SCORES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
NEARLY = 0.9  # of the largest gain
NOTED = 0.05  # a difference of ROUGE-1 that is said
STEPPED = {"rank": ("rank",), "prompt_length": ("tokens",), "examples": ("lora", "lora-long", "full")}
"""Name of a result -> beginnings of the names of candidates that differ in one number."""
WORDS = {
    "rank": "the ranks", "tokens": "the numbers of virtual tokens", "lora": "the numbers of examples for LoRA",
    "lora-long": "those for LoRA with as many steps as with 600", "full": "those for full tuning",
}  # fmt: skip
SERIES = {"lora": "LoRA", "lora-long": "LoRA, as many steps as with 600", "full": "full tuning"}


def parts(table: Table) -> dict[str, Callable[[], str]]:
    """Return name of a generated part -> what makes it.

    Args:
        table: Makes a table of Markdown from a header and rows.
    """
    made: dict[str, Callable[[], str]] = {
        f"measured-{name}": lambda name=name: of_method(table, name)  # type: ignore[misc]
        for name in METHODS
    }
    made["measured-methods"] = lambda: whole(table, "methods", by_gain=True)
    made["measured-lengths"] = lambda: whole(table, "prompt_length")
    made["measured-ranks"] = lambda: whole(table, "rank")
    made["measured-examples"] = lambda: curve(table)
    made["measured-rates"] = lambda: by_rate(table)
    return made


def of_method(table: Table, method: str) -> str:
    """Return the rows of one method, of all that was measured of them."""
    found = read("methods")
    if not found:
        return unmeasured("methods")
    names = [name for name, candidate in found["candidates"].items() if candidate["method"] == method]
    shown = table(header(), (row(found, name) for name in names))
    said = " ".join(filter(None, (together(found, names), beside_lora(found, method))))
    return "\n\n".join(filter(None, (shown, said))) if names else unmeasured("methods")


def whole(table: Table, name: str, *, by_gain: bool = False) -> str:
    """Return all rows of a sweep under a line that says what they were measured on."""
    found = read(name)
    if not found:
        return unmeasured(name)
    names = sorted(found["candidates"], key=lambda one: place(found, one, by_gain=by_gain))
    said = " ".join(filter(None, (measured_on(name, found), together(found, names), apart(found))))
    rows = table(header(), (row(found, one) for one in names))
    return "\n\n".join(filter(None, (said, rows, *(enough(found, kind) for kind in STEPPED.get(name, ())))))


def curve(table: Table) -> str:
    """Return the gain for each number of examples, a column for each way to learn from them."""
    found = read("examples")
    if not found:
        return unmeasured("examples")
    numbers = sorted({int(name.rpartition("-")[2]) for name in found["candidates"]})
    rows = ([used(found, n), *(gain(found, f"{one}-{n}") for one in SERIES)] for n in numbers)
    said = " ".join(filter(None, (enough(found, kind) for kind in STEPPED["examples"])))
    shown = (measured_on("examples", found), table(("examples", *SERIES.values()), rows), said)
    return "\n\n".join(filter(None, shown))


def used(found: dict[str, Any], n: int) -> str:
    """Return a number of examples, with how many were left where copies of tested rows were taken out."""
    left = {known["rows"]["train"] for one in SERIES if (known := found["cells"].get(f"{one}-{n}"))} - {n}
    return f"{n} ({', '.join(map(str, sorted(left)))} used)" if left else str(n)


def by_rate(table: Table) -> str:
    """Return the validation loss of each candidate, a column for each learning rate, the lowest one bold."""
    found = read("rates")
    if not found:
        return unmeasured("rates")
    tried = losses_by_rate(found)
    rates = sorted({rate for losses in tried.values() for rate in losses})
    rows = ([f"`{told}`", *(loss_at(losses, rate) for rate in rates)] for told, losses in tried.items())
    most = max(one["rows"]["train"] for one in found["cells"].values())
    said = (
        f"SmolLM2-135M-Instruct on {most} dialogues of DialogSum; the lowest loss, in nats per target token, that "
        f"training with each rate came to on {found['cells']['zero-shot']['rows']['validation']} others, which are not "
        f"those that anything is tested on. On {devices(found)[0]}, {found['date']}: "
        "[rates.json](../benchmarks/results/rates.json)."
    )
    return f"{said}\n\n{table(('candidate', *(f'{rate:g}' for rate in rates)), rows)}"


def losses_by_rate(found: dict[str, Any]) -> dict[str, dict[float, float | None]]:
    """Return candidate without its rate, as YAML -> rate -> validation loss; None is not measured yet."""
    tried: dict[str, dict[float, float | None]] = {}
    for name, settings in found["candidates"].items():
        told = flow({key: value for key, value in settings.items() if key != "train"})
        loss = found["cells"].get(name, {}).get("validation_loss")
        tried.setdefault(told, {})[settings["train"]["learning_rate"]] = loss
    return tried


def loss_at(losses: dict[float, float | None], rate: float) -> str:
    """Return what a rate came to: bold if nothing lower is known, nothing if it was not tried."""
    if rate not in losses:
        return ""
    loss = losses[rate]
    if loss is None:
        return "not measured yet"
    lowest = min(known for known in losses.values() if known is not None)
    return f"**{fixed(loss, 3)}**" if loss == lowest else fixed(loss, 3)


def place(found: dict[str, Any], name: str, *, by_gain: bool) -> tuple[Any, ...]:
    """Return what a row is sorted by: its gain, the largest first, or the number in its name."""
    if by_gain:
        known = found["cells"].get(name)
        return (-known["gain"]["rouge1"]["value"],) if known else (float("inf"),)
    kind, _, number = name.partition("-")
    kinds = [one.partition("-")[0] for one in found["candidates"]]
    return kinds.index(kind), float(number) if re.match(r"\d", number) else 0.0


def enough(found: dict[str, Any], kind: str) -> str:
    """Return the smallest of candidates that differ in a number, such as a rank, that gains nearly as much as the best.

    Args:
        found: A result.
        kind: What their names begin with, before the number.
    """
    names = [name for name in found["candidates"] if name.rpartition("-")[0] == kind]
    if not names or any(name not in found["cells"] for name in names):
        return ""
    gains = {int(name.rpartition("-")[2]): found["cells"][name]["gain"]["rouge1"]["value"] for name in names}
    best = max(gains, key=lambda number: gains[number])
    smallest = min(number for number, value in gains.items() if value >= NEARLY * gains[best])
    nearly = f"{100 * NEARLY:.0f} % of the largest gain, which {best} has"
    return f"Of {WORDS[kind]}, each trained once, {smallest} is the smallest with at least {nearly}."


def beside_lora(found: dict[str, Any], method: str) -> str:
    """Return how much of LoRA's gain a method has, of those that learn far fewer weights."""
    one, lora = found["cells"].get(method), found["cells"].get("lora")
    if not one or not lora or method == "lora" or one["trainable"] > lora["trainable"] / 10:
        return ""
    gained = one["gain"]["rouge1"]["value"]
    said = f"That is {100 * gained / lora['gain']['rouge1']['value']:.0f} % of LoRA's gain"
    if longer := found["cells"].get(f"lora-{one.get('epochs', 0):g}-epochs"):
        said += f", and {100 * gained / longer['gain']['rouge1']['value']:.0f} % of what LoRA gains in as many epochs"
    return f"{said}."


def together(found: dict[str, Any], names: Sequence[str]) -> str:
    """Return how the times of training are to be read where candidates were tuned side by side; else nothing."""
    most = max((found["cells"][name].get("at once", 1) for name in names if name in found["cells"]), default=1)
    if most == 1:
        return ""
    return f"Up to {most} candidates were tuned at the same time: each of them took longer than it does alone."


def apart(found: dict[str, Any]) -> str:
    """Return how times and memory are to be read where a result comes from several machines; else nothing."""
    if len(devices(found)) == 1:
        return ""
    said = (
        "Where a row names another machine, its time and memory cannot be compared with those of the other rows; of "
        "rows with the same machine its time only roughly, since it is shared and more or less busy."
    )
    off = max(
        map(abs, (base_of(one) - base_of(found["cells"]["zero-shot"]) for one in found["cells"].values())), default=0
    )
    if off < NOTED:
        return said
    return f"{said} Gains are over the base's answers on the same machine, whose ROUGE-1 differs by up to {off:.1f}."


def base_of(one: dict[str, Any]) -> float:
    """Return the ROUGE-1 of the base that a cell was set beside; of the base itself its own."""
    value: float = one["scores"]["rouge1"]["value"]
    return value - (one["gain"]["rouge1"]["value"] if one["gain"] else 0.0)


def header() -> tuple[str, ...]:
    """Return the head of a table of candidates."""
    return ("candidate", *SCORES.values(), "gain in ROUGE-1", *COSTS)


def row(found: dict[str, Any], name: str) -> list[str]:
    """Return one candidate: its scores, its gain and its costs; or why there are none."""
    settings = found["candidates"][name]
    told = f"`{flow(settings)}`"
    one = found["cells"].get(name)
    if one is None:
        return [told, gain(found, name), *[""] * (len(SCORES) + len(COSTS))]
    return [
        told,
        *(fixed(one["scores"][metric]["value"], 1) + between(one["scores"][metric]) for metric in SCORES),
        gain(found, name),
        f"{count(one['trainable'])}, {share(one['share'], 1)}",
        size(one["adapter_bytes"]),
        duration(one["seconds"]["training"]) + elsewhere(found, one),
        size(max(one["peak_bytes"].values())) + elsewhere(found, one),
    ]


def devices(found: dict[str, Any]) -> list[str]:
    """Return what a result was measured on, what most of its cells were measured on first.

    Where a result is made by several calls, each cell names its machine, and the result that of the last call.
    """
    every = [one.get("device", found["device"]) for one in found.get("cells", {}).values()] or [found["device"]]
    return sorted(set(every), key=lambda device: (-every.count(device), device))


def elsewhere(found: dict[str, Any], one: dict[str, Any]) -> str:
    """Return where a cell was measured, if that is not where most of them were."""
    device = one.get("device", found["device"])
    return "" if device == devices(found)[0] else f" (on {device})"


def gain(found: dict[str, Any], name: str) -> str:
    """Return the gain of a cell in ROUGE-1 over the base, or why it is not known."""
    if name in found["failed"]:
        return found["failed"][name]["why"]
    if name not in found["cells"]:
        return "not measured yet" if name in found["candidates"] else ""
    known = found["cells"][name]["gain"]["rouge1"]
    return signed(known["value"], 1) + between(known)


def between(one: dict[str, float]) -> str:
    """Return an interval in brackets."""
    return f" ({fixed(one['low'], 1)} to {fixed(one['high'], 1)})"


def flow(value: Any) -> str:
    """Return a candidate as YAML has it on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and not re.fullmatch(r"[a-z][a-z0-9-]*", value):
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def measured_on(name: str, found: dict[str, Any]) -> str:
    """Return what was tested, on how many rows, how far the sweep is, and where the rest stands."""
    base = found["cells"]["zero-shot"]
    done, all_of_them = len(found["cells"]) - 1, len(found["candidates"])
    rows = base["rows"]
    most = max(one["rows"]["train"] for one in found["cells"].values())
    reached, machine = fixed(base["scores"]["rouge1"]["value"], 1), devices(found)[0]
    here = [one for one in found["cells"].values() if one.get("device", machine) == machine]
    return (
        f"SmolLM2-135M-Instruct on DialogSum, {most} dialogues to learn from, {epochs_of(found)}, tested on "
        f"{rows['test']} ({found['tested on']}); the base has {reached} ROUGE-1. In brackets are 95 % intervals. Each "
        f"candidate is one training with one seed. {done} of {all_of_them} are measured, on {machine}, "
        f"{max(one.get('date', found['date']) for one in here)}: [{name}.json](../benchmarks/results/{name}.json)."
    )


def epochs_of(found: dict[str, Any]) -> str:
    """Return how many epochs most candidates were tuned for, and which were for longer."""
    names: dict[float, list[str]] = {}
    for name, one in found["cells"].items():
        if one.get("epochs"):
            names.setdefault(one["epochs"], []).append(name)
    if not names:
        return "no candidate yet"
    usual, *others = sorted(names, key=lambda epochs: (-len(names[epochs]), epochs))
    more = [f"{epochs:g} for {', '.join(f'`{name}`' for name in names[epochs])}" for epochs in sorted(others)]
    return f"{usual:g} epochs" + (f" ({'; '.join(more)})" if more else "")


def unmeasured(name: str) -> str:
    """Return what stands where nothing is known."""
    return f"Not measured yet; [benchmarks/{name}.py](../benchmarks/{name}.py) does it."


def read(name: str) -> dict[str, Any] | None:
    """Return a result, if there is one."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def in_a_line(result: dict[str, Any]) -> str:
    """Return the gains of a sweep, the largest first, in one line."""
    cells = {name: one["gain"]["rouge1"]["value"] for name, one in result["cells"].items() if name != "zero-shot"}
    ranked = sorted(cells, key=lambda name: -cells[name])
    said = [f"{name} {gain(result, name)}" for name in ranked[:3]]
    return f"ROUGE-1 points over zero-shot: {', '.join(said)}; {len(cells)} of {len(result['candidates'])} measured"


def best_rates(result: dict[str, Any]) -> str:
    """Return the rate with the lowest validation loss for each candidate, in one line."""
    known = (
        (told, {rate: loss for rate, loss in losses.items() if loss is not None})
        for told, losses in losses_by_rate(result).items()
    )
    said = [f"`{told}` {min(losses, key=lambda rate: losses[rate]):g}" for told, losses in known if losses]
    return f"lowest validation loss with: {', '.join(said)}"


FOUND = {**dict.fromkeys(("methods", "prompt_length", "rank", "examples"), in_a_line), "rates": best_rates}
"""Name of a result -> what it found, in one line."""

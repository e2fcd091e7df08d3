"""What a template's text says about itself, found without running any of it."""

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import TemplateSyntaxError, meta, nodes

from tunesmith.data.sandbox import environment
from tunesmith.errors import did_you_mean

CHOICES = "choices"  # the variable that holds the closed answer set, where the task has one
GIVEN = frozenset({CHOICES, "loop", "caller", "varargs", "kwargs"})  # names that are no columns


@dataclass(frozen=True, slots=True)
class Syntax:
    """One parsed text."""

    columns: frozenset[str]  # names it takes from the row
    tested: frozenset[str]  # those it tests with if, or gives a default
    uses_choices: bool
    printed: str | None  # its column, if it prints just one and does nothing else
    problems: tuple[str, ...]  # "line 3: there is no filter ..."


def read_syntax(source: str) -> Syntax:
    """Parse one Jinja text; constants in it are not evaluated, so a hostile text costs nothing here."""
    try:
        tree = environment().parse(source)
    except TemplateSyntaxError as error:
        said = str(error.message).rstrip(".")
        return _broken(f"line {error.lineno}: {said}. A column is written {{{{ name }}}}, a tag {{% if name %}}.")
    except (RecursionError, MemoryError):
        return _broken("line 1: nested too deep.")
    loaded = frozenset(name.name for name in _names(tree) if name.ctx == "load")
    bound = {name.name for name in _names(tree) if name.ctx != "load"}
    bound |= {macro.name for macro in tree.find_all(nodes.Macro)} | set(environment().globals)
    columns = loaded - bound - GIVEN
    return Syntax(
        columns=columns,
        tested=frozenset(_tested(tree)) & columns,
        uses_choices=CHOICES in loaded - bound,
        printed=next(iter(columns)) if len(columns) == 1 and _only_prints(tree) else None,
        problems=tuple(_problems(tree)),
    )


def _broken(problem: str) -> Syntax:
    return Syntax(frozenset(), frozenset(), uses_choices=False, printed=None, problems=(problem,))


def _names(node: nodes.Node) -> Iterator[nodes.Name]:
    if isinstance(node, nodes.Name):
        yield node
    yield from node.find_all(nodes.Name)


def _tested(tree: nodes.Template) -> Iterator[str]:
    tests = [*(node.test for node in tree.find_all(nodes.If)), *(node.test for node in tree.find_all(nodes.CondExpr))]
    for condition in tests:
        yield from (name.name for name in _names(condition))
    for applied in tree.find_all(nodes.Filter):
        if applied.name in {"default", "d"} and applied.node is not None:
            yield from (name.name for name in _names(applied.node))


def _only_prints(tree: nodes.Template) -> bool:
    def plain(node: nodes.Node) -> bool:
        if isinstance(node, nodes.Filter) and node.name == "trim" and node.node is not None:
            node = node.node
        return isinstance(node, nodes.TemplateData | nodes.Name)

    return all(isinstance(part, nodes.Output) and all(map(plain, part.nodes)) for part in tree.body)


def _problems(tree: nodes.Template) -> Iterator[str]:
    if any(True for _ in meta.find_referenced_templates(tree)):
        yield "line 1: include, import and extends are not possible here; write the text out."
    for kind, found, table in (
        ("filter", tree.find_all(nodes.Filter), environment().filters),
        ("test", tree.find_all(nodes.Test), environment().tests),
    ):
        for node in found:
            if node.name not in table:
                yield f'line {node.lineno}: there is no {kind} "{node.name}".{did_you_mean(node.name, list(table))}'

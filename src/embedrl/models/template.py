"""Static check of untrusted chat templates: those that could exhaust memory or time are refused before they run.

transformers runs a template in jinja's sandbox, which keeps it from code and files and not from time and memory.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from embedrl.errors import ModelError

MAX_CHARS = 200_000
"""Of a template; published ones have up to 20,000."""
MAX_NUMBER = 10_000
"""No template needs a larger one: as the length of a text or of a loop it would be an attack."""


class _Generation(Extension):
    """The tag with which templates mark what a model writes; of no weight here."""

    tags = {"generation"}  # noqa: RUF012 (as jinja declares it)

    def parse(self, parser: Any) -> Any:
        """Read the tag as its content."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)


def check_template(template: Any) -> None:
    """Raise ModelError, without the folder, if a chat template is missing, cannot be read, or asks for too much."""
    if not isinstance(template, str):
        raise ModelError("there is no chat template (chat_template.jinja): take that of the model it was trained from")
    if len(template) > MAX_CHARS:
        raise ModelError(f"the chat template has {len(template):,} characters; {MAX_CHARS:,} at most")
    if template.startswith("\ufeff"):
        raise ModelError("the chat template begins with a byte order mark, which each prompt would begin with: save it without")
    try:
        tree = ImmutableSandboxedEnvironment(extensions=[_Generation, loopcontrols]).parse(template)
    except (TemplateError, RecursionError) as error:
        raise ModelError(f"the chat template cannot be read: {' '.join(str(error).split())[:200]}") from error
    for reason in _excesses(tree):
        raise ModelError(f"the chat template {reason}: it could fill the memory or never end, and is not run")


def _excesses(tree: nodes.Template) -> Iterator[str]:
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, int | float) and abs(constant.value) > MAX_NUMBER:
            yield f"holds the number {constant.value:g}; {MAX_NUMBER:,} at most"
    for product in tree.find_all((nodes.Mul, nodes.Pow)):
        if isinstance(product, nodes.Pow) or not any(_is_number(side) for side in (product.left, product.right)):
            yield "multiplies what is no number"
    for joined in tree.find_all((nodes.Concat, nodes.Add)):
        sides = joined.nodes if isinstance(joined, nodes.Concat) else [joined.left, joined.right]
        if any(side == other for side, other in pairwise(sides) if not isinstance(side, nodes.Const)):
            yield "doubles a text"
    for loop in tree.find_all(nodes.For):
        if _counts(loop) and any(_counts(inner) for inner in loop.find_all(nodes.For)):
            yield "counts in a loop inside another"


def _is_number(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Const) and isinstance(node.value, int | float) and abs(node.value) <= 100


def _counts(loop: nodes.For) -> bool:
    return any(isinstance(call.node, nodes.Name) and call.node.name == "range" for call in loop.iter.find_all(nodes.Call)) or (
        isinstance(loop.iter, nodes.Call) and isinstance(loop.iter.node, nodes.Name) and loop.iter.node.name == "range"
    )

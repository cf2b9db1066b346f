"""HTML from Jinja templates: autoescaped, a name that is missing is an error. Each template file is a set of macros."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from embedrl.data.evidence import mark_keywords

ENVIRONMENT = Environment(
    loader=PackageLoader("embedrl.reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
ENVIRONMENT.filters["mark_keywords"] = mark_keywords


def fragment(template: str, macro: str, **values: Any) -> Markup:
    """Return the HTML of one macro; strings among the values are escaped, Markup is not."""
    return getattr(ENVIRONMENT.get_template(f"{template}.html").module, macro)(**values)


def page(**values: Any) -> str:
    """Return a whole page."""
    return ENVIRONMENT.get_template("page.html").render(**values)

"""Pages from templates: one HTML file with everything in it, nothing fetched."""

from __future__ import annotations

from typing import Any

from pam_edge.core.errors import EnvironmentProblem

try:
    import jinja2
except ImportError as e:
    raise EnvironmentProblem(
        "pages are made with jinja2, which is not installed: pip install 'pam-edge[report]'"
    ) from e


def render(template: str, **values: Any) -> str:
    """A page from `templates/`; values are escaped. Raises jinja2's errors for a value that is missing."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__ or "", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template).render(values)

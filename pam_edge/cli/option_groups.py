"""Options in groups: a verb takes frozen dataclasses, and each of their fields is an option."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def with_options(verb: Callable[..., None]) -> Callable[..., None]:
    """`verb` as typer takes it: each parameter that is a dataclass becomes one parameter per field.

    Fields are annotated as typer's parameters are (`Annotated[int, typer.Option(...)]`); their names must
    differ between the groups of one verb.
    """
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: dict[str, Parameter] = {}

    def add(name: str, kind: Any, default: Any) -> None:
        if name in parameters:
            raise TypeError(f"{verb.__name__} has two options {name!r}")
        parameters[name] = Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)

    for name, parameter in signature(verb).parameters.items():
        if name not in groups:
            add(name, hints[name], parameter.default)
            continue
        kinds = get_type_hints(groups[name], include_extras=True)
        for field in fields(groups[name]):
            add(field.name, kinds[field.name], Parameter.empty if field.default is MISSING else field.default)

    def command(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        verb(**given)

    command.__name__, command.__doc__, command.__module__ = verb.__name__, verb.__doc__, verb.__module__
    command.__signature__ = Signature(list(parameters.values()))  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return command

"""Checks of every component's config: it is data, and it says where it comes from."""

from __future__ import annotations

import json
import re
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError
from uncollapse.config import ComponentConfig

from .report import expect

__all__ = ["CONFIG_CHECKS", "names_source"]

_SOURCE = re.compile(
    r"https?://\S+"  # an address
    # "eq. 3", "section 4.1", "Appendix C"; but not "sections of the vector"
    r"|\b(?:eqs?\.|equations?|sections?|sec\.|appendix|algorithm|table|figure|fig\.|theorem|proposition)"
    r"\s*(?:\d|\(|(?-i:[A-Z]\b))"
    r"|[(,]\s?(?:19|20)\d\d[a-z]?[,);]",  # "Kingma and Welling (2014)", "(Ma et al., 2019)"
    re.IGNORECASE,
)


def names_source(text: str | None) -> bool:
    """Whether a docstring cites something: an address, an equation or section, or a year as papers are cited."""
    return bool(_SOURCE.search(text or ""))


def json_round_trip(config: ComponentConfig) -> None:
    """A config written as JSON reads back as the same config, with every default filled in."""
    text = config.model_dump_json()
    again = type(config).model_validate_json(text)
    expect(again == config, f"expected the same config from its own JSON {text}, found {again!r}")
    expect(again.model_dump_json() == text, f"writing it a second time gives other JSON: {again.model_dump_json()}")
    plain = json.loads(text)
    missing = sorted(set(type(config).model_fields) - set(plain))
    expect(not missing, f"fields missing from its JSON: {', '.join(missing)}")


def extra_field_refused(config: ComponentConfig) -> None:
    """A misspelt field is an error, not something that is silently ignored."""
    misspelt = {**config.model_dump(mode="json"), "no_such_field": 1}
    try:
        type(config).model_validate(misspelt)
    except ValidationError:
        return
    expect(False, "expected an error for the unknown field 'no_such_field'; keep extra='forbid'")


def frozen(config: ComponentConfig) -> None:
    """A config does not change once it is validated."""
    name = next((n for n in type(config).model_fields if n != "type"), "type")
    try:
        setattr(config, name, getattr(config, name))
    except (ValidationError, AttributeError, TypeError):
        return
    expect(False, f"expected an error when {name} is assigned; keep frozen=True")


def type_name(config: ComponentConfig) -> None:
    """``type: Literal["name"] = "name"``, in lower case, behind at most one prefix."""
    field = type(config).model_fields["type"]
    annotation: Any = field.annotation
    literal = get_origin(annotation) is Literal and get_args(annotation) == (field.default,)
    expect(literal, f'expected `type: Literal["name"] = "name"`, found {annotation!r} = {field.default!r}')
    shape = r"([a-z][a-z0-9_]*\.)?[a-z][a-z0-9_]*"
    expect(
        re.fullmatch(shape, field.default) is not None,
        f"expected a name in lower case with underscores, after at most one prefix and a dot; found {field.default!r}",
    )
    expect(config.type == field.default, f"expected type {field.default!r}, found {config.type!r}")


CONFIG_CHECKS = (json_round_trip, extra_field_refused, frozen, type_name)

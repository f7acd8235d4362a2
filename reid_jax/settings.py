"""Settings by their names, which are unique across the groups of `config`: their types, values in words, changes."""

import difflib
import math
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal

import jax
from jaxtyping import Array, Float

from reid_jax import contradictions
from reid_jax.config import Config

Number = float | Float[Array, ""]
"""A setting's value, or what stands for the values of several runs in their compiled step (see `trials`)."""


class SettingError(ValueError):
    """There is no such setting, or the value is not one of its type."""


def is_on(number: Number) -> bool:
    """Whether a weight or rate leaves something to do: one that stands for several runs' always does."""
    return isinstance(number, jax.Array) or number != 0


def setting_types() -> dict[str, Any]:
    """The type of every setting by its name."""
    return contradictions.setting_types(Config)


def parse_value(name: str, text: str) -> Any:
    """A setting's value of its own type; a tuple is written `64+128`, a path that is not given `none`.

    Raises:
        SettingError: there is no such setting, or the text is no value of its type; both are named.
    """
    types = setting_types()
    if name not in types:
        near = difflib.get_close_matches(name, types, n=3)
        raise SettingError(f"{name!r} is not a setting{'; is it ' + ' or '.join(near) + '?' if near else ''}")
    kind = types[name]
    choices = {bool: (True, False), str | None: (None,)}.get(kind, ())
    choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else choices
    named = {in_words(choice): choice for choice in choices}
    if text in named:
        return named[text]
    if kind in (str, str | None) and text:
        return text
    try:
        if kind is int:
            return int(text)
        if kind is float and math.isfinite(value := float(text)):
            return value
        if typing.get_origin(kind) is tuple:
            entry_kind = typing.get_args(kind)[0]
            return tuple(entry_kind(entry) for entry in text.split("+")) if text else ()
    except ValueError:
        pass
    allowed = {int: "whole numbers", float: "numbers", str: "words", str | None: "words"}.get(kind)
    joined = "names joined by +, as stem+block0" if kind == tuple[str, ...] else "whole numbers joined by +, as 64+128"
    allowed = allowed or (f"one of {', '.join(named)}" if named else joined)
    raise SettingError(f"{name}={text}: the values of {name} are {allowed}")


def in_words(value: Any) -> str:
    """A setting's value as `parse_value` reads it."""
    if isinstance(value, tuple):
        return "+".join(str(entry) for entry in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def change(config: Config, settings: Mapping[str, Any]) -> Config:
    """The configuration with settings changed, each by its own name, all at once.

    Raises:
        ValueError: they contradict each other or the rest.
    """
    left = dict(settings)

    def changed(group: Any) -> Any:
        found = {}
        for entry in fields(group):
            value = getattr(group, entry.name)
            if is_dataclass(value):
                found[entry.name] = changed(value)
            elif entry.name in left:
                found[entry.name] = left.pop(entry.name)
        return replace(group, **found)

    result = changed(config)
    if left:
        raise SettingError(f"there are no settings {', '.join(left)}")
    return result

"""A chat template, judged as text before anything of its model is loaded.

Guarantees: a template that names what only an escape needs (attributes with a leading underscore, their names as text,
the ``attr`` filter, other templates) is refused unrendered; nothing of it is compiled or run here.
Does not: prove a template harmless; names can be put together while it runs. It is therefore rendered in an immutable
sandbox (``trainers.encoding``), which refuses such names when they are reached for.

Example:
    >>> template_problems("{{ ''.__class__ }}")
    ['reaches for __class__']
"""

from __future__ import annotations

import re
from typing import Any

MAX_TEMPLATE_CHARS = 1 << 20
_OTHER_TEMPLATES = ("include", "import", "from", "extends")


def templates_in(setting: Any) -> list[str]:
    """Every template of a ``chat_template`` setting, which is a text, a list of named ones or an object of them."""
    if isinstance(setting, str):
        return [setting]
    values = setting.values() if isinstance(setting, dict) else setting if isinstance(setting, list) else []
    return [text for value in values for text in templates_in(value)]


def template_problems(text: str) -> list[str]:
    """What is wrong with a template, each thing once, in the order of the text."""
    from jinja2.exceptions import TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if len(text) > MAX_TEMPLATE_CHARS:
        return [f"longer than {MAX_TEMPLATE_CHARS} characters"]
    problems: list[str] = []
    before = ""
    try:
        for _, kind, value in ImmutableSandboxedEnvironment().lex(text):
            if kind == "whitespace":
                continue
            problems += _judged(kind, value, before)
            before = kind if kind == "block_begin" else value
    except TemplateSyntaxError:
        problems.append("is not written as templates are")
    return list(dict.fromkeys(problems))


def _judged(kind: str, value: str, before: str) -> list[str]:
    """One word of a template and the one before it."""
    if kind == "name" and before == "." and value.startswith("_"):
        return [f"reaches for {value[:40]}"]
    if kind == "string" and re.fullmatch(r"__\w+__", value[1:-1]):
        return [f"reaches for {value[1:-1][:40]}"]
    if kind == "name" and before == "|" and value == "attr":
        return ["uses the filter attr"]
    if kind == "name" and before == "block_begin" and value in _OTHER_TEMPLATES:
        return [f"names another template ({value})"]
    return []

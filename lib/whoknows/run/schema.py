"""Checks what a YAML file holds against a JSON schema and says what is wrong in one sentence."""

import difflib
import math

import jsonschema
from jsonschema.exceptions import best_match

# Without these, 4.0 passes for a layer, and .nan passes every minimum and maximum.
_TYPES = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
    {
        "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
        "number": lambda _, value: isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value),
    }
)
_Validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=_TYPES)


def complaint(values, schema: dict) -> str | None:
    """The most telling error of `values` as a sentence with the key, what was expected and what was found; None if none.

    Args:
        schema: JSON Schema, draft 2020-12, whose `title`s say what each value should be.
    """
    error = best_match(_Validator(schema).iter_errors(values))
    if error is None:
        return None
    if error.validator == "additionalProperties":
        return _unknown_key(error)
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        rule = error.schema["properties"][missing]
        return f"{_dotted([*error.absolute_path, missing])} is missing; it should be {rule['title']} ({rule['description']})"
    return _wrong_value(error)


def _unknown_key(error) -> str:
    known = list(error.schema["properties"])
    key = next(key for key in error.instance if key not in known)
    near = difflib.get_close_matches(str(key), known, 1)
    advice = f"did you mean `{near[0]}`?" if near else f"the keys here are {', '.join(known)}"
    return f"there is no key {_dotted([*error.absolute_path, key])}; {advice}"


def _wrong_value(error) -> str:
    # Part of an "any of" has no title of its own: its parent's says what all the ways are.
    while "title" not in error.schema:
        error = error.parent
    key, found = _dotted(error.absolute_path), error.instance
    if error.validator == "uniqueItems":
        return f"{key} holds the same value twice; remove one"
    return f"{key} should be {error.schema['title']}, but is {_short(found)}{_advice(found, error.schema)}"


def _advice(found, schema: dict) -> str:
    near = difflib.get_close_matches(str(found), schema.get("enum", []), 1)
    if near:
        return f"; did you mean `{near[0]}`?"
    try:
        # YAML 1.1 reads 1e-4 as text: a float needs its point.
        return f"; YAML takes that for text: write {float(found):f}".rstrip("0") if isinstance(found, str) else ""
    except ValueError:
        return ""


def _dotted(path) -> str:
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return f"`{steps.lstrip('.')}`" if steps else "the file"


def _short(value) -> str:
    text = "empty" if value in (None, "", [], {}) else f"`{value}`"
    return text if len(text) < 80 else f"{text[:76]}…`"

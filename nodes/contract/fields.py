"""Reading a JSON request body member by member, with the contract's two kinds of fault.

A member of the wrong JSON type, or an unknown member of an enum, raises
:class:`~nodes.contract.errors.InvalidJson` at once.  A well-formed value that breaks a rule is a
*violation*; all violations of a body are collected and told together as one ``InvalidEntity``::

    reader = root(body)
    name = reader.name("name")
    keys = [item.text("key") for item in reader.objects("limits", 1)]
    reader.finish()

``null`` counts as absent, unknown members are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, NoReturn

from fabric.errors import BadInput
from nodes.contract.errors import invalid_json

#: The contract's rule for names, and the text in which violations quote it.
NAME_PATTERN: Final = "^[a-zA-Z][a-zA-Z0-9-]*"
_NAME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*")
MAX_NAME: Final = 63
#: The upper end that rules without one quote (the 2015 server's largest Java int).
NO_UPPER_END: Final = 2147483647
#: Longest value that a message repeats.
_SHOWN: Final = 200


def parse(raw: bytes) -> Any:
    """Parse a request body; an empty one is ``None``. Decimals stay exact."""
    if not raw.strip():
        return None
    try:
        return json.loads(raw, parse_float=_decimal, parse_constant=_no_constant)
    except RecursionError:
        raise invalid_json("nested too deeply") from None
    except ValueError as error:  # bad syntax, bad UTF-8, a number of absurd length
        raise invalid_json(str(error)[:_SHOWN]) from None


def _decimal(text: str) -> Decimal:
    return Decimal(text)


def _no_constant(text: str) -> NoReturn:
    raise invalid_json(f"{text} is not JSON")


def root(body: Any) -> Reader:
    """Return the reader of a whole request body, which must be there."""
    if body is None:
        raise BadInput("request body may not be null (was null)")
    return Reader(body)


class Reader:
    """Reads the members of one JSON object; nested readers share the list of violations."""

    def __init__(self, body: Any, path: str = "", violations: list[str] | None = None) -> None:
        if not isinstance(body, dict):
            raise invalid_json(f"{path or 'the body'} must be an object")
        self._body: dict[str, Any] = body
        self._path = f"{path}." if path else ""
        self._violations: list[str] = [] if violations is None else violations

    @property
    def clean(self) -> bool:
        """Whether no rule was broken so far."""
        return not self._violations

    def violation(self, path: str, rule: str, value: Any) -> None:
        """Note that the value at the full ``path`` breaks ``rule``."""
        self._violations.append(f"{path} {rule} (was {_shown(value)})")

    def finish(self) -> None:
        """Raise one error that tells all violations, if there are any."""
        if self._violations:
            raise BadInput(", ".join(self._violations))

    def path(self, member: str) -> str:
        """Return the property path of a member."""
        return self._path + member

    def text(self, member: str, *, required: bool = True) -> str | None:
        """Read a string of any content."""
        value = self._body.get(member)
        if value is None:
            if required:
                self.violation(self.path(member), "may not be null", None)
            return None
        if not isinstance(value, str):
            raise invalid_json(f"{self.path(member)} must be a string")
        return value

    def name(self, member: str) -> str:
        """Read a required name: letter first, then letters, digits, hyphens; 1 to 63 long."""
        value = self.text(member)
        if value is None:
            return ""
        path = self.path(member)
        if not _NAME.fullmatch(value):
            self.violation(path, f'must match "{NAME_PATTERN}"', value)
        if not 1 <= len(value) <= MAX_NAME:
            self.violation(path, f"size must be between 1 and {MAX_NAME}", value)
        return value

    def choice(self, member: str, allowed: Sequence[str]) -> str:
        """Read a required string with a rule that lists its values (a field rule, not an enum)."""
        value = self.text(member)
        if value is None:
            return ""
        if value not in allowed:
            self.violation(self.path(member), f'must match "{"|".join(allowed)}"', value)
        return value

    def enum(self, member: str, allowed: Sequence[str]) -> str:
        """Read a required enum member; an unknown one means that the JSON cannot be read."""
        value = self.text(member)
        if value is None:
            return ""
        if value not in allowed:
            raise invalid_json(f"{value:.{_SHOWN}} was not one of [{', '.join(allowed)}]")
        return value

    def boolean(self, member: str) -> bool:
        """Read a boolean that is false when absent."""
        value = self._body.get(member)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise invalid_json(f"{self.path(member)} must be true or false")
        return value

    def integer(self, member: str, least: int, most: int) -> int | None:
        """Read an optional integer within bounds."""
        value = self._body.get(member)
        if value is None:
            return None
        if isinstance(value, Decimal) and value == value.to_integral_value():
            value = int(value) if value.adjusted() < len(str(most)) + 1 else most + 1
        if isinstance(value, bool) or not isinstance(value, int):
            raise invalid_json(f"{self.path(member)} must be an integer")
        self._bound(member, value, least, most)
        return value

    def number(self, member: str, least: int, most: int) -> int | Decimal:
        """Read a required number within bounds."""
        value = self._body.get(member)
        if value is None:
            self.violation(self.path(member), "may not be null", None)
            return least
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise invalid_json(f"{self.path(member)} must be a number")
        return value if self._bound(member, value, least, most) else least

    def objects(self, member: str, least: int = 0, most: int = NO_UPPER_END) -> list[Reader]:
        """Read an array of objects; required if it must hold something."""
        return [
            Reader(item, path, self._violations) for item, path in self._array(member, least, most)
        ]

    def texts(self, member: str) -> tuple[str, ...]:
        """Read an optional array of strings."""
        out = []
        for item, path in self._array(member, 0, NO_UPPER_END):
            if not isinstance(item, str):
                raise invalid_json(f"{path} must be a string")
            out.append(item)
        return tuple(out)

    def object(self, member: str) -> Reader | None:
        """Read a required nested object."""
        value = self._body.get(member)
        if value is None:
            self.violation(self.path(member), "may not be null", None)
            return None
        return Reader(value, self.path(member), self._violations)

    def text_map(self, member: str) -> dict[str, str]:
        """Read an optional object whose values are strings."""
        value = self._body.get(member)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise invalid_json(f"{self.path(member)} must be an object")
        for key, text in value.items():
            if not isinstance(text, str):
                raise invalid_json(f"{self.path(member)}.{key:.{_SHOWN}} must be a string")
        return value

    def has(self, member: str) -> bool:
        """Return whether a member is there and not null."""
        return self._body.get(member) is not None

    def _array(self, member: str, least: int, most: int) -> list[tuple[Any, str]]:
        value = self._body.get(member)
        path = self.path(member)
        if value is None:
            if least:
                self.violation(path, "may not be null", None)
            return []
        if not isinstance(value, list):
            raise invalid_json(f"{path} must be an array")
        if not least <= len(value) <= most:
            shown = f"{len(value)} elements" if value else value
            self.violation(path, f"size must be between {least} and {most}", shown)
            return []
        return [(item, f"{path}[{index}]") for index, item in enumerate(value)]

    def _bound(self, member: str, value: int | Decimal, least: int, most: int) -> bool:
        if value < least:
            self.violation(self.path(member), f"must be greater than or equal to {least}", value)
            return False
        if value > most:
            self.violation(self.path(member), f"must be less than or equal to {most}", value)
            return False
        return True


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if value == []:
        return "[]"
    return f"{value!s:.{_SHOWN}}"

"""Names of functions, modules and components, each with one canonical spelling.

Users write `a/b:c`, `a/b.js:c`, `a/b` or `a/b:default`; the server stores `a/b.js:c`; queries travel as
`a/b:c`. Nothing is matched fuzzily.

Source: reference/values-and-sync.md §6, §1.3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cvx.errors import CvxError

PATH_LENGTH_MAX: Final = 4096
"""In characters: 63 names of 64."""
_identifier: Final = re.compile(r"(?!_+\Z)[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_module_part: Final = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9_.]{1,64}", re.ASCII)
_table_name: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)


def is_identifier(text: str) -> bool:
    """Whether `text` may name an index, a function, a component or a field in a path."""
    return _identifier.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, order=True)
class FunctionPath:
    """Where a function is: component ("" is the app), module (canonical, with ".js") and export."""

    component: str
    module: str
    export: str

    @staticmethod
    def parse(text: str, component: str = "") -> FunctionPath:
        """The path that any of the equivalent spellings means.

        Raises CvxError "BadConvexFunctionIdentifier" (or "InvalidComponentPath" for `component`).
        """
        if len(text) + len(component) > PATH_LENGTH_MAX:  # Also keeps long texts out of the cache.
            raise _bad_path(text, f"it is longer than {PATH_LENGTH_MAX} characters")
        return _parsed(text, component)

    @property
    def canonical(self) -> str:
        """`a/b.js:c`: how the server stores it."""
        return f"{self.module}:{self.export}"

    @property
    def udf_path(self) -> str:
        """`a/b:c`, always with the export: how queries travel."""
        return f"{self.module[:-3]}:{self.export}"

    @property
    def display(self) -> str:
        """`a/b:c`, or `a/b` for the default export: how people read it."""
        return self.module[:-3] if self.export == "default" else self.udf_path

    @property
    def is_system(self) -> bool:
        """Whether it lies in `_system/`, which only admins may call."""
        return self.module.startswith("_system/")

    def __str__(self) -> str:
        return f"{self.component}/{self.udf_path}" if self.component else self.udf_path


@lru_cache(maxsize=4096)
def _parsed(text: str, component: str) -> FunctionPath:
    module, colon, export = text.rpartition(":")
    if not colon:
        module, export = text, "default"
    try:
        module = check_module_path(module)
    except CvxError as error:
        raise _bad_path(text, error.message) from None
    if not is_identifier(export):
        raise _bad_path(text, f"'{export[:64]}' is not a valid export name")
    check_component_path(component)
    return FunctionPath(component, module, export)


def _bad_path(text: str, why: str) -> CvxError:
    return CvxError(
        "BadConvexFunctionIdentifier",
        f"'{text[:128]}' is not a valid path to a Convex function: {why.rstrip('.')}.",
        hint="Write it as folder/module:function, such as messages:list.",
    )


def check_module_path(text: str) -> str:
    """The canonical spelling (`a/b.js`) of a module's path.

    Raises CvxError "BadConvexModuleIdentifier" for an absolute path, a part with other characters than
    letters, digits, `_` and `.`, or an extension other than `.js`.
    """
    parts = text.split("/")
    for part in parts:
        if _module_part.fullmatch(part) is None:
            raise _bad_module(text, f"'{part[:64]}' is not a valid part of it")
    stem, dot, extension = parts[-1].rpartition(".")
    if not dot:
        return text + ".js"
    if extension != "js" or not any(c.isalnum() for c in stem):
        raise _bad_module(text, f"it has the extension '.{extension}', and only '.js' is known")
    return text


def _bad_module(text: str, why: str) -> CvxError:
    return CvxError(
        "BadConvexModuleIdentifier",
        f"'{text[:128]}' is not a valid path to a module: {why}.",
        hint="Use letters, digits, underscores and periods, with '/' between folders.",
    )


def check_component_path(text: str) -> str:
    """`text`, when it is "" or component names with `/` between. Raises CvxError "InvalidComponentPath"."""
    if text and not all(map(is_identifier, text.split("/"))):
        raise CvxError("InvalidComponentPath", f"'{text[:128]}' is not a valid path to a component.")
    return text


def check_table_name(text: str) -> str:
    """`text`, when a user table may be called so.

    Raises CvxError "InvalidTableName", or "TableNameReserved" for a leading underscore.
    """
    if _table_name.fullmatch(text) is None:
        raise CvxError(
            "InvalidTableName",
            f"'{text[:80]}' is not a valid table name.",
            hint="Start with a letter; use letters, digits and underscores, at most 64.",
        )
    if text.startswith("_"):
        raise CvxError(
            "TableNameReserved",
            f"Table name '{text}' starts with an underscore, which is reserved for system tables.",
            hint="Rename the table.",
        )
    return text


def parse_field_path(text: str) -> tuple[str, ...]:
    """The names in a dotted field path; dots at either end are ignored. Raises CvxError "InvalidFieldPath"."""
    if len(text) > PATH_LENGTH_MAX:
        raise CvxError("InvalidFieldPath", f"A field path is longer than {PATH_LENGTH_MAX} characters.")
    return _field_path(text)


@lru_cache(maxsize=4096)
def _field_path(text: str) -> tuple[str, ...]:
    names = tuple(text.strip(".").split("."))
    for name in names:
        if not is_identifier(name):
            raise CvxError(
                "InvalidFieldPath",
                f"'{text[:128]}' is not a valid field path: '{name[:64]}' is not an identifier.",
            )
    return names

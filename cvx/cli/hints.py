"""What fixes a refusal that came without advice: the deployment does not know which command was typed.

Rule: one action a code; a hint that the error brings wins.
"""

from __future__ import annotations

from cvx.errors import CvxError

_NAME_RULES = "A name begins with a letter or _, and goes on with letters, digits and _ (at most 40 in all)."
_FUNCTIONS = "Write it as module:function; `cvx functions` lists those that are deployed."

HINTS: dict[str, str] = {
    "BadConvexFunctionIdentifier": _FUNCTIONS,
    "EnvironmentVariableNameInvalid": _NAME_RULES,
    "EnvironmentVariableValueTooLarge": "Shorten the value, or keep it in a file or a table.",
    "EnvVarNameForbidden": "Choose another name; `cvx env list` shows the variables that are yours.",
    "NotFound": "Check --url: it is the deployment's address alone, like http://127.0.0.1:3210.",
}


def hinted(error: CvxError) -> CvxError:
    """The same error, with a hint where one is known."""
    if error.hint is None:
        error.hint = HINTS.get(error.code)
    return error

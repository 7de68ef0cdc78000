"""Help that helps: examples that parse, nearest matches, exit codes, the whole tree as data."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from cvx.cli.app import COMMANDS, EXIT_CODES, root_command, run, with_optional_values
from cvx.cli.commands.help import describe, typer_context
from tests.cli.command_line import cvx, empty_project


@lru_cache(maxsize=1)
def tree() -> dict[str, Any]:
    root = root_command()
    return describe(root, typer_context(root, "cvx", None))


def leaves(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "commands" in node:
        for child in node["commands"]:
            yield from leaves(child)
    else:
        yield node


def test_every_listed_command_can_be_loaded() -> None:
    assert [child["name"] for child in tree()["commands"]] == [f"cvx {name}" for name in COMMANDS]
    assert len(list(leaves(tree()))) >= 25


@pytest.mark.parametrize("command", list(leaves(tree())), ids=lambda command: str(command["name"]))
def test_help_ends_with_two_examples_that_parse(command: dict[str, Any]) -> None:
    assert command["help"], f"{command['name']} says nothing about itself"
    examples = command["examples"]
    assert len(examples) >= 2, f"{command['name']} has {len(examples)} examples"
    shown = [line for line in examples if line.startswith("cvx ")]
    assert shown, "examples show cvx itself"
    for line in shown:
        assert_parses(shlex.split(line, comments=True)[1:])


TALKING = [
    leaf for leaf in leaves(tree()) if any("--admin-key" in option["names"] for option in leaf["options"])
]


@pytest.mark.parametrize("command", TALKING, ids=lambda command: str(command["name"]))
def test_examples_run_as_far_as_the_deployment(
    command: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each example of a command that talks, in a project that has its files: all that is missing is the deployment."""
    if command["name"] in ("cvx dev", "cvx config show", "cvx deployment show"):
        pytest.skip("run by tests/toolchain/test_dev_loop.py and test_deployment_command.py")
    monkeypatch.chdir(empty_project(tmp_path / "app"))
    if command["name"] != "cvx data export":  # It refuses to write over files.
        for name in ("messages.jsonl", "users.csv", ".env.production"):
            Path(name).write_text("A=1\n")
        Path("snapshot.zip").write_bytes(b"PK\x03\x04")
    for line in command["examples"]:
        if not line.startswith("cvx ") or line.rstrip().endswith("FILE"):
            continue
        words = shlex.split(line, comments=True)[1:]
        if "--url" in words:
            words = words[: words.index("--url")]
        words = [word for word in words if word != "--prod"]
        code = run([*words, "--url", "http://127.0.0.1:9", "--admin-key", "k"])
        assert code == 6, f"{line}: {code}, {capsys.readouterr().err}"


def assert_parses(words: list[str]) -> None:
    """Typer takes these words, down to the command's own options (nothing is run)."""
    command, context = root_command(), typer_context(root_command(), "cvx", None)
    words = with_optional_values(words)
    while hasattr(command, "list_commands"):
        name, *words = words
        assert name in command.list_commands(context), f"no command {name}"
        command = command.get_command(context, name)
        context = typer_context(command, name, context)
    parser = command.make_parser(context)
    _, rest, _ = parser.parse_args(list(words))
    assert rest == []


@pytest.mark.parametrize("command", list(leaves(tree())), ids=lambda command: str(command["name"]))
def test_every_command_has_the_global_options(command: dict[str, Any]) -> None:
    names = {name for option in command["options"] for name in option["names"]}
    assert names >= {
        "--help",
        "--json",
        "--quiet",
        "-q",
        "--verbose",
        "-v",
        "--color",
        "--no-input",
        "--project",
    }


TALKERS = [
    "run",
    "deploy",
    "functions",
    "logs",
    "dev",
    "env set",
    "env get",
    "env list",
    "data list",
    "data show",
]


@pytest.mark.parametrize("name", TALKERS)
def test_commands_that_talk_take_the_deployment_options(name: str) -> None:
    command = next(leaf for leaf in leaves(tree()) if leaf["name"] == f"cvx {name}")
    names = {option for each in command["options"] for option in each["names"]}
    assert names >= {"--deployment", "--prod", "--url", "--admin-key", "--env-file"}


def test_no_arguments_gives_short_help(tmp_path: Path) -> None:
    done = cvx(cwd=tmp_path)
    assert done.code == 0
    assert "cvx COMMAND" in done.out and "init" in done.out
    assert len(done.out.splitlines()) < 40


def test_help_as_json_is_the_whole_tree(tmp_path: Path) -> None:
    described = cvx("help", "--json", cwd=tmp_path).envelope()["data"]
    assert [child["name"] for child in described["commands"]] == [f"cvx {name}" for name in COMMANDS]


def test_exit_codes_are_documented(tmp_path: Path) -> None:
    done = cvx("help", "exit-codes", cwd=tmp_path)
    assert [int(line.split()[0]) for line in done.out.splitlines()] == list(EXIT_CODES)
    assert list(EXIT_CODES) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 124, 130]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["dve"], "cvx dev"),
        (["env", "sett"], "cvx env set"),
        (["data", "LST"], "cvx data list"),
        (["completion", "shw"], "cvx completion show"),
        (["run", "--wach", "a:b"], "--watch"),
        (["help", "depoy"], "cvx help deploy"),
        (["init", "--template", "chat-vit", "--no-install"], "chat-vite"),
        (["dev", "--typecheck", "enabled"], "enable"),
    ],
)
def test_nearest_match_is_offered(tmp_path: Path, words: list[str], offered: str) -> None:
    done = cvx(*words, cwd=tmp_path)
    assert done.code in (2, 3)
    assert offered in done.err
    envelope = cvx(*words, "--json", cwd=tmp_path).envelope()
    assert offered in f"{envelope['error']['message']} {envelope['error']['hint']}"


def test_help_of_a_command_is_data(tmp_path: Path) -> None:
    done = cvx("run", "--help", cwd=tmp_path)
    assert done.code == 0 and done.err == ""
    assert done.out.rstrip().splitlines()[-5].startswith("Examples:") or "Examples:" in done.out
    last = done.out.rstrip().splitlines()[-1]
    assert last.strip().startswith("cvx ")


def test_examples_hold_valid_json(tmp_path: Path) -> None:
    """The quoted objects in examples are what a person copies."""
    for command in leaves(tree()):
        for line in command["examples"]:
            for word in shlex.split(line, comments=True):
                if word.startswith("{"):
                    json.loads(word)

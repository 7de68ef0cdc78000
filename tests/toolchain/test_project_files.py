"""The project's own files: where it is, convex.json, package.json, dotenv files, ignored names."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvx.errors import CvxError
from cvx.toolchain.progress import diagnostics_of
from cvx.toolchain.project import (
    Project,
    detect_framework,
    edit_env_file,
    ensure_ignored,
    find_project,
    load_project,
    read_env_file,
    write_urls,
)
from cvx.toolchain.project.env_file import is_ignored, remove_variable, set_variable


def project(root: Path, files: dict[str, str]) -> Project:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return load_project(root)


# ------------------------------------------------------------------------------------------------ where it is


def test_found_from_inside(tmp_path: Path) -> None:
    project(tmp_path, {"package.json": '{"dependencies": {"convex": "1"}}', "convex/lib/a.ts": ""})
    found = find_project(tmp_path / "convex" / "lib")
    assert found.root == tmp_path.resolve()
    assert found.functions_dir == tmp_path.resolve() / "convex"


@pytest.mark.parametrize("marker", ["convex.json", "cvx.toml"])
def test_markers_win_over_an_inner_package(tmp_path: Path, marker: str) -> None:
    project(tmp_path, {marker: "" if marker == "cvx.toml" else "{}", "inner/package.json": "{}"})
    assert find_project(tmp_path / "inner").root == tmp_path.resolve()


def test_a_package_without_convex_is_the_last_resort(tmp_path: Path) -> None:
    project(tmp_path, {"app/package.json": "{}"})
    assert find_project(tmp_path / "app").root == (tmp_path / "app").resolve()


def test_nothing_found(tmp_path: Path) -> None:
    with pytest.raises(CvxError) as caught:
        find_project(tmp_path)
    assert caught.value.code == "ProjectNotFound"
    assert "cvx init" in (caught.value.hint or "")


def test_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CvxError, match="is not a folder"):
        find_project(tmp_path / "none")


def test_convex_must_be_a_dependency(tmp_path: Path) -> None:
    with pytest.raises(CvxError) as caught:
        project(tmp_path, {"package.json": '{"dependencies": {"react": "19"}}'}).require_convex()
    assert caught.value.code == "ConvexNotADependency"
    project(tmp_path, {"package.json": '{"peerDependencies": {"convex": "1"}}'}).require_convex()


# ------------------------------------------------------------------------------------------------ convex.json


def test_defaults_and_create_react_app(tmp_path: Path) -> None:
    assert project(tmp_path, {"package.json": "{}"}).config.functions == "convex/"
    cra = project(tmp_path, {"package.json": '{"dependencies": {"react-scripts": "5"}}'})
    assert cra.config.functions == "src/convex/"


def test_every_key(tmp_path: Path) -> None:
    text = """{
      "$schema": "x", "functions": "backend", "generateCommonJSApi": true, "typescriptCompiler": "tsgo",
      "node": {"externalPackages": ["sharp"], "nodeVersion": "22"},
      "codegen": {"staticApi": true, "staticDataModel": true, "legacyComponentApi": true, "fileType": "js/dts"},
      "bundler": {"includeSourcesContent": true}
    }"""
    config = project(tmp_path, {"convex.json": text}).config
    assert (config.functions, config.external_packages, config.node_version) == ("backend", ("sharp",), "22")
    assert config.static_api and config.static_data_model and config.legacy_component_api
    assert config.generate_commonjs_api and config.include_sources_content
    assert (config.file_type, config.typescript_compiler, config.warnings) == ("js/dts", "tsgo", ())


def test_unknown_keys_are_warnings(tmp_path: Path) -> None:
    config = project(
        tmp_path, {"convex.json": '{\n  "functoins": "x",\n  "node": {\n    "extra": 1\n  }\n}'}
    ).config
    assert [(w.location, w.severity) for w in config.warnings] == [
        ("convex.json:2:3", "warning"),
        ("convex.json:4:5", "warning"),
    ]
    assert 'unknown key "node.extra"' in config.warnings[1].text


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('{\n  "functions": "convex/",\n}', 3, "not valid JSON"),
        ('{\n  // a comment\n  "functions": "convex/"\n}', 2, "not valid JSON"),
        ('{\n  "functions": "con', 2, "not valid JSON"),
        ("", 1, "not valid JSON"),
        ("[]", 1, "Expected `object`"),
        ('{\n\n  "functions": 3\n}', 3, "Expected `str"),
        ('{\n  "functions": ""\n}', 2, "length >= 1"),
        ('{\n  "functions": "../outside"\n}', 2, "inside the project"),
        ('{\n  "functions": "/etc"\n}', 2, "inside the project"),
        ('{\n  "node": {\n    "externalPackages": "sharp"\n  }\n}', 3, "Expected `array`"),
        ('{\n  "node": {\n    "externalPackages": [\n 1]\n  }\n}', 3, "Expected `str`"),
        ('{\n  "codegen": {\n    "fileType": "js"\n  }\n}', 3, "Invalid enum value"),
        ('{\n  "codegen": {"fileType": "ts"},\n  "generateCommonJSApi": true\n}', 3, "cannot be combined"),
    ],
)
def test_malformed(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(CvxError) as caught:
        project(tmp_path, {"convex.json": text})
    assert caught.value.code == "InvalidConvexJson"
    assert caught.value.retry_when == "files"
    [diagnostic] = diagnostics_of(caught.value)
    assert (diagnostic.file, diagnostic.line) == ("convex.json", line)
    assert words in diagnostic.text
    assert f"convex.json:{line}" in caught.value.message


def test_misplaced_convex_json(tmp_path: Path) -> None:
    with pytest.raises(CvxError, match=r"src/convex\.json"):
        project(tmp_path, {"src/convex.json": "{}"})


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "convex.json").write_bytes(b'{"functions": "\xff"}')
    with pytest.raises(CvxError, match="not UTF-8"):
        load_project(tmp_path)


def test_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_bytes(b'\xef\xbb\xbf{"name": "@me/app"}')
    assert load_project(tmp_path).name == "app"


def test_malformed_package_json(tmp_path: Path) -> None:
    with pytest.raises(CvxError) as caught:
        project(tmp_path, {"package.json": '{\n  "name": "x",\n  "dependencies": ["convex"]\n}'})
    assert caught.value.code == "InvalidPackageJson"
    assert diagnostics_of(caught.value)[0].line == 3


# ------------------------------------------------------------------------------------------------ frameworks


@pytest.mark.parametrize(
    ("packages", "url", "site"),
    [
        (["react-scripts", "vite"], "REACT_APP_CONVEX_URL", "REACT_APP_CONVEX_SITE_URL"),
        (["next", "vite"], "NEXT_PUBLIC_CONVEX_URL", "NEXT_PUBLIC_CONVEX_SITE_URL"),
        (["expo"], "EXPO_PUBLIC_CONVEX_URL", "EXPO_PUBLIC_CONVEX_SITE_URL"),
        (["@sveltejs/kit", "vite"], "PUBLIC_CONVEX_URL", "PUBLIC_CONVEX_SITE_URL"),
        (["@tanstack/start"], "VITE_CONVEX_URL", "VITE_CONVEX_SITE_URL"),
        (["@tanstack/react-start"], "VITE_CONVEX_URL", "VITE_CONVEX_SITE_URL"),
        (["vite", "@remix-run/dev"], "VITE_CONVEX_URL", "VITE_CONVEX_SITE_URL"),
        (["@remix-run/dev"], "CONVEX_URL", "CONVEX_SITE_URL"),
        (["express"], "CONVEX_URL", "CONVEX_SITE_URL"),
    ],
)
def test_variable_names(tmp_path: Path, packages: list[str], url: str, site: str) -> None:
    names = ", ".join(f'"{p}": "1"' for p in packages)
    found = detect_framework(
        project(tmp_path, {"package.json": f'{{"devDependencies": {{{names}}}}}'}).package_json
    )
    assert (found.url_variable, found.site_url_variable) == (url, site)


# ------------------------------------------------------------------------------------------------ dotenv files


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "A=1\n"),
        ("B=2\n", "B=2\n\nA=1\n"),
        ("B=2", "B=2\n\nA=1\n"),
        ("B=2\r\n", "B=2\r\n\r\nA=1\r\n"),
        ("A=1\n", "A=1\n"),
        ("A='1' # kept\n", "A='1' # kept\n"),
        ("# top\nA=0 # gone with the value\n\nB=2\n", "# top\nA=1\n\nB=2\n"),
        ("A=0\r\nB=2\r\n", "A=1\r\nB=2\r\n"),
        ("  export A=0\nB=2", "  export A=1\nB=2"),
        ("A=0", "A=1"),
        ("A_OLD=0\nAA=0\n", "A_OLD=0\nAA=0\n\nA=1\n"),
        ("A=0\nB=2\nA=9\n", "A=0\nB=2\nA=1\n"),
        ('A="two\nlines"\nB=2\n', "A=1\nB=2\n"),
        ("A=\nB=2\n", "A=1\nB=2\n"),
        ("A\nB=2\n", "A=1\nB=2\n"),
    ],
)
def test_setting_changes_one_assignment(before: str, after: str) -> None:
    assert set_variable(before, "A", "1") == after
    assert set_variable(after, "A", "1") == after


@pytest.mark.parametrize(
    "value", ["plain", "a b", "a#b", "it's", 'say "hi"', "$HOME", "back\\slash", "two\nlines", ""]
)
def test_values_come_back_as_they_were(tmp_path: Path, value: str) -> None:
    path = tmp_path / ".env.local"
    path.write_text("B=2\n")
    edit_env_file(path, {"A": value})
    assert read_env_file(path) == {"A": value, "B": "2"}


def test_removing(tmp_path: Path) -> None:
    assert remove_variable("# top\n\nA=1\nB=2\nA=3\n", "A") == "# top\n\nB=2\n"
    assert remove_variable("B=2\n", "A") == "B=2\n"


def test_a_comment_stands_before_a_new_variable() -> None:
    assert set_variable("B=2\n", "A", "1", comment="# why") == "B=2\n\n# why\nA=1\n"
    assert set_variable("A=0\n", "A", "1", comment="# why") == "A=1\n"


def test_a_bad_name_is_refused() -> None:
    with pytest.raises(CvxError, match="not a name"):
        set_variable("", "A B", "1")


def test_a_broken_line_is_named_without_its_secret(tmp_path: Path) -> None:
    path = tmp_path / ".env.local"
    path.write_text("A=1\nmy key=hunter2\n")
    with pytest.raises(CvxError) as caught:
        read_env_file(path)
    assert caught.value.code == "InvalidEnvFile"
    assert ".env.local:2" in caught.value.message
    assert "hunter2" not in caught.value.message


def test_permissions_and_links_survive(tmp_path: Path) -> None:
    target = tmp_path / "shared.env"
    target.write_text("A=0\n")
    target.chmod(0o640)
    link = tmp_path / ".env.local"
    link.symlink_to(target)
    assert edit_env_file(link, {"A": "1"}) == ("A",)
    assert link.is_symlink() and target.read_text() == "A=1\n"
    assert target.stat().st_mode & 0o777 == 0o640
    assert edit_env_file(link, {"A": "1"}) == ()


def test_a_new_file_is_private(tmp_path: Path) -> None:
    edit_env_file(tmp_path / ".env.local", {"A": "1"})
    assert (tmp_path / ".env.local").stat().st_mode & 0o777 == 0o600


URL, SITE = "http://127.0.0.1:3210", "http://127.0.0.1:3211"


def test_urls_as_the_official_cli_writes_them(tmp_path: Path) -> None:
    app = project(tmp_path, {"package.json": '{"devDependencies": {"vite": "8"}}'})
    change = write_urls(app, URL, SITE)
    assert change.changed == ("VITE_CONVEX_URL", "VITE_CONVEX_SITE_URL")
    assert (tmp_path / ".env.local").read_text() == f"VITE_CONVEX_URL={URL}\n\nVITE_CONVEX_SITE_URL={SITE}\n"
    assert write_urls(app, URL, SITE).changed == ()


def test_a_known_name_that_is_there_is_kept(tmp_path: Path) -> None:
    app = project(
        tmp_path, {"package.json": '{"devDependencies": {"vite": "8"}}', ".env.local": "CONVEX_URL=old\n"}
    )
    assert write_urls(app, URL, None).changed == ("CONVEX_URL",)
    assert (tmp_path / ".env.local").read_text() == f"CONVEX_URL={URL}\n"


def test_several_known_names_are_left_alone(tmp_path: Path) -> None:
    text = "CONVEX_URL=a\nVITE_CONVEX_URL=b\n"
    change = write_urls(project(tmp_path, {".env.local": text}), URL, SITE)
    assert change.changed == () and "CONVEX_URL, VITE_CONVEX_URL" in change.warnings[0]
    assert (tmp_path / ".env.local").read_text() == text


def test_remix_without_env_local_uses_env(tmp_path: Path) -> None:
    app = project(tmp_path, {"package.json": '{"devDependencies": {"@remix-run/dev": "2"}}'})
    assert write_urls(app, URL, None).file.name == ".env"


# ------------------------------------------------------------------------------------------------ .gitignore


@pytest.mark.parametrize(
    ("patterns", "ignored"),
    [
        ("", False),
        (".env.local", True),
        ("/.env.local", True),
        (".env*", True),
        ("*.local", True),
        ("**/.env.local", True),
        (".env*\n!.env.local", False),
        ("# .env.local", False),
        (".env", False),
    ],
)
def test_gitignore_patterns(patterns: str, ignored: bool) -> None:
    assert is_ignored(patterns, ".env.local") is ignored


def test_ignored_names_are_added_once(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("node_modules/\n*.local")
    assert ensure_ignored(tmp_path, (".env.local", "node_modules", ".cvx")) == (".cvx",)
    assert (tmp_path / ".gitignore").read_text() == "node_modules/\n*.local\n.cvx\n"
    assert ensure_ignored(tmp_path, (".env.local", "node_modules", ".cvx")) == ()

"""Which deployment a command talks to: the precedence matrix, and what local deployments leave behind."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cvx.errors import CvxError
from cvx.toolchain.project import (
    DeploymentFlags,
    Project,
    Selection,
    list_local,
    list_named,
    load_project,
    local_state,
    select_deployment,
    select_name,
    settings_with_origin,
)

URL, KEY = "CONVEX_SELF_HOSTED_URL", "CONVEX_SELF_HOSTED_ADMIN_KEY"
TOML = """
[deployments.staging]
url = "https://staging.example"
admin_key_env = "STAGING_KEY"

[deployments.prod]
url = "https://prod.example/"
admin_key_env = "PROD_KEY"
"""


def pair(name: str) -> dict[str, str]:
    return {URL: f"http://{name}.example", KEY: f"{name}|key"}


def dotenv(values: dict[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


@pytest.fixture
def app(tmp_path: Path) -> Project:
    (tmp_path / "package.json").write_text('{"dependencies": {"convex": "1"}}')
    return load_project(tmp_path)


def choose(app: Project, environ: dict[str, str] | None = None, **flags: object) -> Selection:
    return select_deployment(app, DeploymentFlags(**flags), environ or {})  # type: ignore[arg-type]


def make_local(app: Project, name: str, port: int) -> None:
    state = local_state(app, name)
    state.save(replace(state.create(f"local-{name}", port, port + 1), admin_key=f"{name}|key"))


# The places a choice can be made in, highest first; each of them wins over everything below it.
PLACES = ["flag", "process", ".env.local", ".env", "selection", "cvx.toml", "default"]


@pytest.mark.parametrize("winner", range(len(PLACES)), ids=PLACES)
def test_each_place_wins_over_those_below(app: Project, winner: int) -> None:
    present = PLACES[winner:]
    make_local(app, "default", 4000)
    make_local(app, "chosen", 4010)
    (app.root / "cvx.toml").write_text(('deployment = "staging"\n' if "cvx.toml" in present else "") + TOML)
    for name in (".env.local", ".env"):
        if name in present:
            (app.root / name).write_text(dotenv(pair(name.strip(".").replace(".", "-"))))
    if "selection" in present:
        select_name(app, "chosen")
    environ = {"STAGING_KEY": "s|key", **(pair("process") if "process" in present else {})}
    flags = {"url": "http://flag.example", "admin_key": "f|key"} if "flag" in present else {}
    selection = choose(app, environ, **flags)
    assert (
        selection.require().url
        == {
            "flag": "http://flag.example",
            "process": "http://process.example",
            ".env.local": "http://env-local.example",
            ".env": "http://env.example",
            "selection": "http://127.0.0.1:4010",
            "cvx.toml": "https://staging.example",
            "default": "http://127.0.0.1:4000",
        }[PLACES[winner]]
    )
    assert selection.origin == {
        "flag": "--url and --admin-key",
        "process": "process environment",
        "selection": "cvx deployment select",
    }.get(PLACES[winner], PLACES[winner])


def test_a_local_deployment_that_is_not_set_up(app: Project) -> None:
    selection = choose(app)
    assert (selection.name, selection.kind, selection.deployment) == ("default", "local", None)
    with pytest.raises(CvxError) as caught:
        selection.require()
    assert caught.value.code == "DeploymentNotCreated"


def test_a_local_deployment(app: Project) -> None:
    make_local(app, "default", 4000)
    deployment = choose(app).require()
    assert (deployment.url, deployment.site_url) == ("http://127.0.0.1:4000", "http://127.0.0.1:4001")
    assert "key" not in repr(deployment)


def test_named_deployments(app: Project) -> None:
    (app.root / "cvx.toml").write_text(TOML)
    make_local(app, "feature", 4000)
    assert choose(app, deployment="feature").require().url == "http://127.0.0.1:4000"
    staging = choose(app, {"STAGING_KEY": "k"}, deployment="staging").require()
    assert (staging.kind, staging.admin_key) == ("self-hosted", "k")
    prod = choose(app, {"PROD_KEY": "k"}, prod=True).require()
    assert (prod.kind, prod.url) == ("prod", "https://prod.example")
    assert [name for name, _, _ in list_named(app)] == ["feature", "staging", "prod"]
    with pytest.raises(CvxError) as caught:
        choose(app, deployment="stagin")
    assert caught.value.code == "DeploymentNotFound"
    assert "staging" in caught.value.details["known"]


def test_keys_come_from_env_local_too(app: Project) -> None:
    (app.root / "cvx.toml").write_text(TOML)
    (app.root / ".env.local").write_text("PROD_KEY=fromfile\n")
    assert choose(app, prod=True).require().admin_key == "fromfile"
    with pytest.raises(CvxError) as caught:
        choose(app, deployment="staging")
    assert (caught.value.code, caught.value.kind) == ("AdminKeyMissing", "unauthenticated")
    assert "STAGING_KEY" in caught.value.message


def test_env_file_is_the_only_source(app: Project, tmp_path: Path) -> None:
    other = tmp_path / "other.env"
    other.write_text(dotenv(pair("other")))
    (app.root / ".env.local").write_text(dotenv(pair("local")))
    assert choose(app, pair("process"), env_file=other).require().url == "http://other.example"
    other.write_text("X=1\n")
    with pytest.raises(CvxError, match="names no deployment"):
        choose(app, pair("process"), env_file=other)
    with pytest.raises(CvxError, match="does not exist"):
        choose(app, env_file=tmp_path / "none.env")


def test_values_of_the_pair_may_stand_in_different_places(app: Project) -> None:
    (app.root / ".env.local").write_text(f"{URL}=http://a.example\n")
    assert choose(app, {KEY: "k"}).require().url == "http://a.example"


def test_empty_is_unset(app: Project) -> None:
    make_local(app, "default", 4000)
    assert choose(app, {URL: "", KEY: "", "CONVEX_DEPLOYMENT": ""}).require().kind == "local"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({URL: "http://a"}, f"{KEY} is not set"),
        ({KEY: "k"}, f"{URL} is not set"),
        ({**pair("a"), "CONVEX_DEPLOYMENT": "dev:x"}, "each choose"),
        ({URL: "ftp://a", KEY: "k"}, "not the URL"),
        ({"CONVEX_DEPLOY_KEY": "prod:happy-otter-1|x"}, "which URL"),
        ({"CONVEX_DEPLOY_KEY": "preview:team:proj|x"}, "preview key"),
        ({"CONVEX_DEPLOY_KEY": "<missing_deploy_key:set one>"}, "set one"),
        ({"CONVEX_DEPLOYMENT": "dev:happy-otter-1 # team: t"}, "in the cloud"),
        ({"CONVEX_DEPLOYMENT": "happy-otter-1"}, "in the cloud"),
    ],
)
def test_contradictions_are_refused(app: Project, environ: dict[str, str], words: str) -> None:
    with pytest.raises(CvxError, match=words) as caught:
        choose(app, environ)
    assert caught.value.retry_when == "env"


def test_deploy_key_with_its_url(app: Project) -> None:
    environ = {"CONVEX_DEPLOY_KEY": "prod:happy-otter-1|x", "CONVEX_URL": "https://h.example"}
    deployment = choose(app, environ).require()
    assert (deployment.kind, deployment.name, deployment.url) == (
        "prod",
        "happy-otter-1",
        "https://h.example",
    )
    ignored = {**pair("a"), "CONVEX_DEPLOY_KEY": "<ignore_deploy_key>"}
    assert choose(app, ignored).require().url == "http://a.example"


def test_url_alone_selects_nothing(app: Project) -> None:
    make_local(app, "default", 4000)
    assert choose(app, {"CONVEX_URL": "http://elsewhere"}).require().url == "http://127.0.0.1:4000"


@pytest.mark.parametrize(
    "value", ["anonymous:anonymous-app", "anonymous-app", "local:local-team-proj", "local:feature"]
)
def test_official_local_names(app: Project, value: str) -> None:
    make_local(app, "default", 4000)
    make_local(app, "feature", 4010)
    expected = "feature" if value == "local:feature" else "default"
    assert choose(app, {"CONVEX_DEPLOYMENT": value}).name == expected


@pytest.mark.parametrize(
    "flags",
    [
        {"url": "http://a"},
        {"admin_key": "k"},
        {"url": "http://a", "admin_key": "k", "deployment": "x"},
        {"prod": True, "deployment": "x"},
        {"prod": True, "env_file": Path("x")},
    ],
)
def test_contradicting_flags(app: Project, flags: dict[str, Any]) -> None:
    with pytest.raises(CvxError) as caught:
        choose(app, **flags)
    assert caught.value.code == "InvalidSelection"


@pytest.mark.parametrize("text", ["deployments = 3", "[deployments.x]\nurk = 'a'", "not toml ["])
def test_broken_cvx_toml(app: Project, text: str) -> None:
    (app.root / "cvx.toml").write_text(text)
    with pytest.raises(CvxError) as caught:
        choose(app)
    assert caught.value.code == "InvalidCvxToml"


def test_origins_are_shown_and_secrets_are_not(app: Project) -> None:
    (app.root / ".env.local").write_text(dotenv(pair("file")))
    settings = settings_with_origin(app, DeploymentFlags(), {URL: "http://process.example"})
    urls = [(s.value, s.origin, s.overridden) for s in settings if s.name == URL]
    assert urls == [
        ("http://process.example", "process environment", False),
        ("http://file.example", ".env.local", True),
    ]
    [key] = [s for s in settings if s.name == KEY]
    assert key.to_json()["value"] == "(hidden)"
    assert "functions" in {s.name for s in settings}
    assert [s.overridden for s in settings if s.name == "deployment"] == [True], "the variables choose"


# ------------------------------------------------------------------------------------------------ local state


def test_state_keeps_itself_out_of_git(app: Project) -> None:
    make_local(app, "default", 4000)
    assert (app.root / ".cvx/.gitignore").read_text() == "*\n"
    assert (app.root / ".cvx/local/default/config.json").stat().st_mode & 0o777 == 0o600
    assert [s.name for s in list_local(app)] == ["default"]


def test_create_is_idempotent(app: Project) -> None:
    state = local_state(app)
    first = state.create("local-app", 4000, 4001)
    assert state.create("other", 5000, 5001) == first
    assert len(first.instance_secret) == 64
    assert state.move_ports(6000, 6001).instance_secret == first.instance_secret


def test_a_torn_or_newer_config(app: Project) -> None:
    make_local(app, "default", 4000)
    path = app.root / ".cvx/local/default/config.json"
    text = path.read_text()
    path.write_text(text[:20])
    with pytest.raises(CvxError) as caught:
        local_state(app).load()
    assert caught.value.code == "InvalidLocalState"
    path.write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(CvxError, match="newer cvx"):
        local_state(app).load()


@pytest.mark.parametrize("name", ["", "../x", "A", "a/b", "-a", "a" * 64])
def test_names_are_safe_for_folders(app: Project, name: str) -> None:
    with pytest.raises(CvxError) as caught:
        local_state(app, name)
    assert caught.value.code == "InvalidDeploymentName"


def test_a_running_backend_is_known_and_a_dead_one_forgotten(app: Project) -> None:
    state = local_state(app)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    state.note_running(child.pid, 4000, 4001)
    running = state.running()
    assert running is not None and (running.pid, running.cloud_port) == (child.pid, 4000)
    make_local(app, "default", 4000)
    with pytest.raises(CvxError) as caught:
        state.delete()
    assert caught.value.code == "DeploymentRunning"
    child.communicate(b"\n")
    assert state.running() is None
    assert not (app.root / ".cvx/local/default/backend.json").exists()
    state.delete()
    assert list_local(app) == ()


def test_a_recycled_pid_is_not_our_backend(app: Project) -> None:
    state = local_state(app)
    state.note_running(os.getpid(), 4000, 4001)
    path = app.root / ".cvx/local/default/backend.json"
    text = path.read_text()
    start = text.partition('"started": "')[2].partition('"')[0]
    path.write_text(text.replace(f'"{start}"', '"17"'))
    assert state.running() is None
    path.write_text('{"pid": 1, "sta')
    assert state.running() is None


def _hold_lock(root: Path, ready: multiprocessing.synchronize.Event) -> None:
    with local_state(load_project(root)).dev_lock():
        ready.set()
        ready.wait(60)
        import time

        time.sleep(60)


def test_the_second_dev_is_refused_and_a_dead_one_leaves_no_lock(app: Project) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold_lock, args=(app.root, ready))
    holder.start()
    assert ready.wait(60)
    with pytest.raises(CvxError) as caught, local_state(app).dev_lock():
        pass
    assert caught.value.code == "AlreadyRunning"
    assert str(holder.pid) in caught.value.message
    holder.kill()
    holder.join()
    with local_state(app).dev_lock():
        pass


def test_selecting(app: Project) -> None:
    make_local(app, "one", 4000)
    assert select_name(app, "one")
    assert not select_name(app, "one")
    assert choose(app).name == "one"
    assert select_name(app, None)
    assert choose(app).name == "default"

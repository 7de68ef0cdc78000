"""A wheel built from the repository works in a clean environment: templates and the runner's files are in it."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.toolchain.dev_process import environment

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.deno]


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


@pytest.mark.timeout(600)
def test_wheel_in_a_clean_environment(tmp_path: Path) -> None:
    run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        tmp_path,
    )
    (wheel,) = tmp_path.glob("cvx_toolchain-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for template in (ROOT / "templates").iterdir():
        for path in template.rglob("*"):
            if path.is_file() and "node_modules" not in path.parts:
                assert f"cvx/_templates/{path.relative_to(ROOT / 'templates').as_posix()}" in names
    for path in [*ROOT.glob("cvx/**/*.js"), *ROOT.glob("cvx/**/*.ts")]:
        assert path.relative_to(ROOT).as_posix() in names
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)

    venv.create(tmp_path / "venv", with_pip=True)
    bin_folder = tmp_path / "venv" / "bin"
    run([str(bin_folder / "pip"), "install", "--quiet", "--disable-pip-version-check", str(wheel)], tmp_path)
    cvx = str(bin_folder / "cvx")
    assert run([cvx, "--version"], tmp_path).stdout.startswith("cvx ")
    run([cvx, "init", "app", "--template", "blank"], tmp_path)
    app = tmp_path / "app"
    run([cvx, "dev", "--once"], app)
    run([cvx, "run", "notes:add", '{"text": "from a wheel"}'], app)
    notes = json.loads(run([cvx, "run", "notes:list"], app).stdout)
    assert [note["text"] for note in notes] == ["from a wheel"]

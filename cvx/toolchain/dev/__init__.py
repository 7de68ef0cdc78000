"""The development loop and its parts: watcher, pipeline, local backend, front end."""

from cvx.toolchain.dev.doctor import DataFolder, Finding, Machine, examine
from cvx.toolchain.dev.local_backend import prepare_deployment, running_backend, start_backend, stop_backend
from cvx.toolchain.dev.loop import DevLoop, DevOptions, DevView, check_types_passed, develop
from cvx.toolchain.dev.pipeline import Build, Pipeline, Pushed, pushed_code
from cvx.toolchain.dev.setup import SetUp, generate_types, push_once, set_up_project

__all__ = [
    "Build",
    "DataFolder",
    "DevLoop",
    "DevOptions",
    "DevView",
    "Finding",
    "Machine",
    "Pipeline",
    "Pushed",
    "SetUp",
    "check_types_passed",
    "develop",
    "examine",
    "generate_types",
    "prepare_deployment",
    "push_once",
    "pushed_code",
    "running_backend",
    "set_up_project",
    "start_backend",
    "stop_backend",
]

"""Source to bundle: entry points, components, esbuild, type-checking, generated code."""

from cvx.toolchain.build.bundle import Bundle, ComponentBundle, bundle_project
from cvx.toolchain.build.codegen import Analysis, CodegenResult, generate, init_functions_dir, write_stubs
from cvx.toolchain.build.components import ComponentDirectory, ComponentGraph, find_components
from cvx.toolchain.build.definitions import evaluate_definitions
from cvx.toolchain.build.entry_points import EntryPoint, EntryPoints, find_entry_points
from cvx.toolchain.build.esbuild import Bundler, Module
from cvx.toolchain.build.external_packages import NodeDependency
from cvx.toolchain.build.typecheck import Typecheck, TypecheckResult, typecheck

__all__ = [
    "Analysis",
    "Bundle",
    "Bundler",
    "CodegenResult",
    "ComponentBundle",
    "ComponentDirectory",
    "ComponentGraph",
    "EntryPoint",
    "EntryPoints",
    "Module",
    "NodeDependency",
    "Typecheck",
    "TypecheckResult",
    "bundle_project",
    "evaluate_definitions",
    "find_components",
    "find_entry_points",
    "generate",
    "init_functions_dir",
    "typecheck",
    "write_stubs",
]

/**
 * What the bundler adds to esbuild: imports that mean something else in functions than they do elsewhere.
 *
 * Source: reference/cli-and-deploy.md §2.3 (plugins), §7.1 (component definitions).
 */

import { existsSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { builtinModules } from "node:module";
import path from "node:path";

const CONFIG_IMPORT = /convex\.config/;
const VIRTUAL_CONFIG = 'import { defineApp } from "convex/server";\nexport default defineApp();\n';

/** `server-only` marks a module for a framework's bundler; for functions it means nothing. */
export const serverOnly = {
  name: "server-only",
  setup(build) {
    build.onResolve({ filter: /^server-only$/ }, (args) => ({ path: args.path, namespace: "server-only" }));
    build.onLoad({ filter: /.*/, namespace: "server-only" }, () => ({ contents: "", loader: "js" }));
  },
};

/** The function runtime offers the two classes as globals; "use node" code has the real module. */
export const asyncHooks = {
  name: "async-hooks",
  setup(build) {
    build.onResolve({ filter: /^(node:)?async_hooks$/ }, (args) => ({ path: args.path, namespace: "async-hooks" }));
    build.onLoad({ filter: /.*/, namespace: "async-hooks" }, () => ({
      contents:
        "export const { AsyncLocalStorage, AsyncResource } = globalThis;\n" +
        "export default { AsyncLocalStorage, AsyncResource };\n",
      loader: "js",
    }));
  },
};

/** `import wasm from "./x.wasm"` gives a compiled module: a stub that compiles the embedded bytes. */
export const wasm = {
  name: "wasm",
  setup(build) {
    build.onResolve({ filter: /\.wasm$/ }, async (args) => {
      if (args.namespace === "wasm-stub") return { path: args.path, namespace: "wasm-bytes" };
      if (args.pluginData === "wasm") return;
      const found = await build.resolve(args.path, {
        kind: args.kind,
        resolveDir: args.resolveDir,
        importer: args.importer,
        pluginData: "wasm",
      });
      return found.errors.length > 0 ? { errors: found.errors } : { path: found.path, namespace: "wasm-stub" };
    });
    build.onLoad({ filter: /.*/, namespace: "wasm-stub" }, (args) => ({
      contents: `import bytes from ${JSON.stringify(args.path)};\nexport default new WebAssembly.Module(bytes);\n`,
    }));
    build.onLoad({ filter: /.*/, namespace: "wasm-bytes" }, async (args) => ({
      contents: await readFile(args.path),
      loader: "binary",
    }));
  },
};

/**
 * Leaves the named packages out of a node bundle; notes in `used` which of them were met. Only the copy in the
 * project's own node_modules: the server installs that version, and another package's own copy may be a different one.
 */
export function externals(names, root, used) {
  const escaped = names.map((name) => name.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&"));
  const filter = new RegExp(`^(${escaped.join("|")})(/|$)`);
  return {
    name: "externals",
    setup(build) {
      build.onStart(() => used.clear());
      build.onResolve({ filter, namespace: "file" }, (args) => {
        const name = filter.exec(args.path)[1];
        if (nearestCopy(name, args.resolveDir) !== path.join(root, "node_modules", name)) return;
        used.add(name);
        return { path: args.path, external: true };
      });
    },
  };
}

/** The folder that an import of a package means for code in `folder`, or null. */
function nearestCopy(name, folder) {
  for (;;) {
    const candidate = path.join(folder, "node_modules", name);
    if (existsSync(candidate)) return candidate;
    const parent = path.dirname(folder);
    if (parent === folder) return null;
    folder = parent;
  }
}

/** Replaces imports of other component definitions by the name the server resolves them under. */
export function componentDependencies(rootDir) {
  return {
    name: "component-dependencies",
    setup(build) {
      build.onResolve({ filter: CONFIG_IMPORT }, async (args) => {
        if (args.kind === "entry-point" || args.pluginData === "component") return;
        const definition = await resolveDefinition(build, args);
        if (definition === null) return;
        const relative = path.relative(rootDir, path.dirname(definition)).split(path.sep).join("/");
        return { path: `./_componentDeps/${base64url(relative)}`, external: true };
      });
    },
  };
}

/** Finds definitions through TypeScript's habit of importing `./x/convex.config.js` for a `.ts` file. */
export const definitionImports = {
  name: "definition-imports",
  setup(build) {
    build.onResolve({ filter: CONFIG_IMPORT }, async (args) => {
      if (args.kind === "entry-point" || args.pluginData === "component") return;
      const definition = await resolveDefinition(build, args);
      return definition === null ? undefined : { path: definition };
    });
  },
};

/** An app without convex.config.* is defined by an empty one, which exists only here. */
export function virtualConfig(entry, resolveDir) {
  const filter = new RegExp(`^${entry.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")}$`);
  return {
    name: "virtual-config",
    setup(build) {
      build.onResolve({ filter }, (args) => ({ path: args.path, namespace: "virtual-config" }));
      build.onLoad({ filter, namespace: "virtual-config" }, () => ({ contents: VIRTUAL_CONFIG, resolveDir }));
    },
  };
}

/** The convex.config file an import means, or null when it means something else. */
async function resolveDefinition(build, args) {
  const extension = path.extname(args.path);
  const candidates = [args.path];
  if (extension === ".js") candidates.push(`${args.path.slice(0, -3)}.ts`);
  if (extension !== ".js" && extension !== ".ts") candidates.push(`${args.path}.js`, `${args.path}.ts`);
  for (const candidate of candidates) {
    const found = await build.resolve(candidate, {
      kind: args.kind,
      resolveDir: args.resolveDir,
      importer: args.importer,
      pluginData: "component",
    });
    if (!found.path || found.errors.length > 0) continue;
    const folder = path.dirname(found.path);
    for (const name of ["convex.config.ts", "convex.config.js"]) {
      if (isFile(path.join(folder, name))) return path.join(folder, name);
    }
  }
  return null;
}

/** Leaves Node's built-in modules alone, to learn how the others reach them. */
export const builtins = {
  name: "builtins",
  setup(build) {
    const known = new Set([...builtinModules, ...builtinModules.map((name) => `node:${name}`)]);
    build.onResolve({ filter: /.*/ }, (args) => (known.has(args.path) ? { path: args.path, external: true } : null));
  },
};

/** A name in base64 as it stands in the imports of definition bundles. */
export function base64url(text) {
  return new TextEncoder().encode(text).toBase64({ alphabet: "base64url", omitPadding: true });
}

function isFile(file) {
  return statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;
}

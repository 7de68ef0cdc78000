/**
 * The bundler process: the project's own esbuild, kept alive between builds.
 *
 * Started by esbuild.py under Deno with full permissions (this is our tooling code; user code is read and
 * bundled here; only component definitions run, in workers that may do nothing). Arguments: the path of the project's esbuild/lib/main.js. One JSON request a line
 * on stdin, one JSON answer a line on stdout, in order; ends when stdin does.
 *
 *   {"cmd":"build","root":…,"targets":[Target…]}  → {"results":{key: Result}}
 *   {"cmd":"discover","root":…,"entry":…}          → {"definitions":[…],"inputs":[…]} or {"errors":[…]}
 *   {"cmd":"evaluate","sources":[…]}               → {"evaluated":[JSON text…]} or {"problem":…}
 *
 * A Target keeps an esbuild context under its key as long as its options stay the same, so a rebuild parses
 * only what changed. A module that is the same as in the key's previous answer is answered without its text.
 *
 * Settings: reference/cli-and-deploy.md §2.3.
 */

import { createHash } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { evaluate } from "./bundler_definitions.js";
import {
  asyncHooks,
  builtins,
  componentDependencies,
  definitionImports,
  externals,
  serverOnly,
  virtualConfig,
  wasm,
} from "./bundler_plugins.js";

const esbuild = (await import(pathToFileURL(Deno.args[0]).href)).default;

const REREADS_MAX = 3;
const REREAD_PAUSE_MS = 50;
const CLOCK_GRAIN_MS = 20; // File systems stamp changes with a clock that ticks every few milliseconds.

// ---------------------------------------------------------------- options

/** A target's esbuild options, and the set that collects the external packages it really imports. */
function optionsOf(root, target) {
  const used = new Set();
  if (target.kind === "definitions") {
    const plugins = [componentDependencies(target.dir)];
    if (target.virtual) plugins.push(virtualConfig(target.entries[0], target.dir));
    return {
      used,
      options: { ...definitionOptions(root), entryPoints: target.entries, sourcemap: true, plugins },
    };
  }
  const plugins = target.platform === "browser" ? [asyncHooks, serverOnly] : [serverOnly];
  if (target.externals.length > 0) plugins.push(externals(target.externals, root, used));
  plugins.push(wasm);
  const options = {
    absWorkingDir: root,
    entryPoints: target.entries,
    bundle: true,
    platform: target.platform,
    format: "esm",
    target: "esnext",
    jsx: "automatic",
    outdir: "out",
    outbase: target.dir,
    conditions: ["convex", "module"],
    plugins,
    write: false,
    sourcemap: true,
    sourcesContent: target.sourcesContent,
    splitting: target.splitting,
    chunkNames: `${target.chunks}/[hash]`,
    treeShaking: true,
    minifySyntax: true,
    minifyIdentifiers: true,
    keepNames: true,
    define: { "process.env.NODE_ENV": '"production"' },
    metafile: true,
    logLevel: "silent",
  };
  return { used, options };
}

function definitionOptions(root) {
  const top = path.parse(root).root;
  return {
    absWorkingDir: root,
    bundle: true,
    platform: "browser",
    format: "esm",
    target: "esnext",
    conditions: ["convex", "module"],
    splitting: false,
    write: false,
    outdir: top,
    outbase: top,
    minify: true,
    keepNames: true,
    metafile: true,
    logLevel: "silent",
  };
}

// ---------------------------------------------------------------- building

/** Work that the one who asked need not wait for. */
const afterwards = [];

/** key → { signature, options, context, used, sent: path → { stamp, sha256 }, last: { answer, watched, stamp } | null } */
const targets = new Map();

async function build(root, wanted) {
  const keys = new Set(wanted.map((target) => target.key));
  for (const [key, held] of targets) {
    if (keys.has(key)) continue;
    targets.delete(key);
    held.context.dispose();
  }
  const answers = await Promise.all(wanted.map((target) => buildTarget(root, target)));
  return { results: Object.fromEntries(answers.map((answer, index) => [wanted[index].key, answer])) };
}

async function buildTarget(root, target) {
  const signature = JSON.stringify([root, target]);
  let held = targets.get(target.key);
  if (held?.signature !== signature) {
    held?.context.dispose();
    const { options, used } = optionsOf(root, target);
    held = { signature, used, options, context: await esbuild.context(options), sent: new Map(), last: null };
    targets.set(target.key, held);
  }
  // Most saves touch one target; esbuild would link and print the others all the same.
  if (held.last !== null && held.last.stamp === stampOf(held.last.watched)) {
    return { ...held.last.answer, modules: held.last.answer.modules.map(({ path, sha256 }) => ({ path, sha256 })) };
  }
  try {
    held.last = null;
    const begin = Date.now();
    const built = await rebuildConsistently(held.context, root);
    const answer = answerOf(built, held, root, target);
    afterwards.push(() => {
      const watched = watchedBy(answer.inputs, root, target.dir);
      const stamp = stampOf(watched);
      // What changed since the build began may be in the stamp and not in the answer: then build once more.
      const latest = begin - CLOCK_GRAIN_MS;
      const settled = watched.every(({ path, optional }) => changeTimeOf(path, optional) < latest);
      held.last = settled ? { answer, watched, stamp } : null;
    });
    return answer;
  } catch (error) {
    if (!Array.isArray(error?.errors)) throw error;
    return { errors: await explain(error.errors, held.options, root), warnings: error.warnings ?? [] };
  }
}

/** Build until no input changed its size while it was read (an editor that writes in two steps). */
async function rebuildConsistently(context, root) {
  for (let attempt = 1; ; attempt++) {
    const built = await context.rebuild();
    const torn = Object.entries(built.metafile.inputs).find(([input, { bytes }]) => {
      const file = fileOf(input, root);
      return file !== null && !input.includes(":") && sizeOf(file) !== bytes;
    });
    if (torn === undefined) return built;
    if (attempt === REREADS_MAX) {
      throw { errors: [{ text: "the file kept changing while it was read", location: { file: torn[0] }, notes: [] }] };
    }
    await new Promise((resolve) => setTimeout(resolve, REREAD_PAUSE_MS));
  }
}

function answerOf(built, held, root, target) {
  const base = target.kind === "definitions" ? path.parse(root).root : path.join(root, "out");
  const files = new Map();
  for (const file of built.outputFiles) files.set(path.relative(base, file.path).split(path.sep).join("/"), file);
  const sent = new Map();
  const modules = [];
  for (const [name, file] of files) {
    if (name.endsWith(".map")) continue;
    const map = files.get(`${name}.map`);
    const stamp = `${file.hash} ${map?.hash}`;
    const before = held.sent.get(name);
    if (before?.stamp === stamp) {
      sent.set(name, before);
      modules.push({ path: name, sha256: before.sha256 });
      continue;
    }
    const hash = createHash("sha256").update(file.contents);
    if (map) hash.update(map.contents);
    const sha256 = hash.digest("hex");
    sent.set(name, { stamp, sha256 });
    modules.push({ path: name, sha256, source: file.text, sourceMap: map?.text ?? null });
  }
  held.sent = sent;
  return {
    modules,
    inputs: filesOf(built.metafile.inputs, root),
    warnings: built.warnings,
    externals: [...held.used].sort(),
  };
}

/** The component definitions reachable from the app's, each with what it imports, in source order. */
async function discover(root, entry) {
  let built;
  try {
    built = await esbuild.build({ ...definitionOptions(root), entryPoints: [entry], plugins: [definitionImports] });
  } catch (error) {
    if (!Array.isArray(error?.errors)) throw error;
    return { errors: error.errors };
  }
  const { inputs } = built.metafile;
  const isDefinition = (input) => /(^|\/)convex\.config\.(ts|js)$/.test(input);
  const definitions = Object.keys(inputs).filter(isDefinition);
  return {
    definitions: definitions.map((input) => ({
      file: path.resolve(root, input),
      dependencies: dependenciesOf(input, inputs, isDefinition).map(({ to, original }) => ({
        file: path.resolve(root, to),
        specifier: original,
      })),
    })),
    inputs: filesOf(inputs, root),
  };
}

function dependenciesOf(definition, inputs, isDefinition) {
  const found = new Map();
  const seen = new Set(); // Without the definition: one that imports itself, by whatever way, depends on itself.
  const queue = [definition];
  while (queue.length > 0) {
    for (const { path: to, original, external } of inputs[queue.shift()]?.imports ?? []) {
      if (external || seen.has(to)) continue;
      seen.add(to);
      if (isDefinition(to)) found.set(to, { to, original: original ?? null });
      else queue.push(to);
    }
  }
  return [...found.values()];
}

/** esbuild's complaints; one about a Node built-in also says through which imports it is reached. */
async function explain(errors, options, root) {
  const aboutNode = (error) => error.notes?.some((note) => note.text.includes("bundle for node"));
  if (!errors.some(aboutNode)) return errors;
  let inputs = {};
  try {
    const plugins = [...options.plugins, builtins];
    inputs = (await esbuild.build({ ...options, plugins, minifyIdentifiers: false })).metafile.inputs;
  } catch {
    return errors; // Other mistakes besides: those are reported, the path to this one is a luxury.
  }
  const starts = options.entryPoints.map((entry) => path.relative(root, entry).split(path.sep).join("/"));
  return errors.map((error) =>
    aboutNode(error) && error.location ? { ...error, trace: traceTo(error.location.file, starts, inputs) } : error
  );
}

/** The shortest chain of imports from one of `starts` to `file`, both included. */
function traceTo(file, starts, inputs) {
  const from = new Map(starts.map((start) => [start, null]));
  const queue = [...starts];
  while (queue.length > 0) {
    const at = queue.shift();
    if (at === file) {
      const chain = [];
      for (let step = at; step !== null; step = from.get(step)) chain.unshift(step);
      return chain;
    }
    for (const { path: to } of inputs[at]?.imports ?? []) {
      if (from.has(to)) continue;
      from.set(to, at);
      queue.push(to);
    }
  }
  return [];
}

// ---------------------------------------------------------------- files

/** The file behind a metafile input; null for what exists only in a plugin. */
function fileOf(input, root) {
  const match = /^(\(disabled\)|[a-z-]{2,}):(.*)$/s.exec(input);
  if (match === null) return path.resolve(root, input);
  return match[1] === "wasm-bytes" ? path.resolve(root, match[2]) : null;
}

function filesOf(inputs, root) {
  const files = Object.keys(inputs).map((input) => fileOf(input, root));
  return [...new Set(files.filter((file) => file !== null))].sort();
}

/**
 * What decides the outcome of a build: the files read, the configuration that esbuild heeds, and the names beside
 * the files, since a new one may win the resolution of an import.
 */
function watchedBy(files, root, dir) {
  const folders = [...new Set(files.map((file) => path.dirname(file)))];
  const configured = new Set([root, dir, ...folders].filter((folder) => !folder.includes("node_modules")));
  const heeded = [...configured].flatMap((folder) =>
    ["package.json", "tsconfig.json", "jsconfig.json"].map((name) => path.join(folder, name))
  );
  return [
    ...files.map((file) => ({ path: file, folder: false, optional: false })),
    ...heeded.map((file) => ({ path: file, folder: false, optional: true })),
    ...folders.map((folder) => ({ path: folder, folder: true, optional: false })),
  ];
}

/** A text that differs when anything in `watched` does. */
function stampOf(watched) {
  return watched.map(({ path, folder }) => {
    if (folder) return namesIn(path);
    const stat = statSync(path, { throwIfNoEntry: false });
    return stat === undefined ? "-" : `${stat.mtimeMs}/${stat.ctimeMs}/${stat.size}/${stat.ino}`;
  }).join(" ");
}

/** When a file last changed, at the latest. Deno tells the change time in whole seconds only. */
function changeTimeOf(file, optional) {
  const stat = statSync(file, { throwIfNoEntry: false });
  if (stat === undefined) return optional ? 0 : Infinity;
  const { mtimeMs, ctimeMs } = stat;
  if (!ctimeMs || Math.floor(ctimeMs / 1000) === Math.floor(mtimeMs / 1000)) return mtimeMs;
  return Math.max(mtimeMs, ctimeMs + 999);
}

function namesIn(folder) {
  try {
    return readdirSync(folder).join("/");
  } catch {
    return "-";
  }
}

function sizeOf(file) {
  return statSync(file, { throwIfNoEntry: false })?.size ?? -1;
}

// ---------------------------------------------------------------- the loop

async function answer(request) {
  switch (request.cmd) {
    case "build":
      return await build(request.root, request.targets);
    case "discover":
      return await discover(request.root, request.entry);
    case "evaluate":
      return await evaluate(request.sources);
    default:
      throw new Error(`unknown command ${request.cmd}`);
  }
}

function send(message) {
  let bytes = new TextEncoder().encode(`${JSON.stringify(message)}\n`);
  while (bytes.length > 0) bytes = bytes.subarray(Deno.stdout.writeSync(bytes));
}

// esbuild's own child starts with its first job: start it while Python still looks for entry points.
esbuild.transform("").catch(() => {});
send({ ready: true, esbuild: esbuild.version });

let pending = "";
for await (const chunk of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (pending + chunk).split("\n");
  pending = lines.pop();
  for (const line of lines) {
    try {
      send(await answer(JSON.parse(line)));
      for (const work of afterwards.splice(0)) work();
    } catch (error) {
      send({ failure: String(error?.stack ?? error) });
    }
  }
}
await esbuild.stop();
process.exit(0);

// Modules: what was pushed, compiled once here, instantiated afresh for every execution.
//
// A bundle maps paths to hashes; sources are kept by hash and path and shared by bundles. An entry module and
// all it imports form a closure. When every module of a closure is eligible (scanner.js) the closure is a list of
// compiled functions to call in order; otherwise V8's module records are made, linked and evaluated each time.
// Chunks that hold nothing but the npm package `convex` and generated glue keep no state between calls: they are
// evaluated once, frozen to the bottom and shared, after checking that none of their bindings changes later.
// Source: reference/runtime-and-database.md §3.4; why it is so: docs/adr (isolation inside a Deno child).

import vm from "node:vm";
import { IMPORT_NAME, scan } from "./scanner.js";
import { currentExecution } from "./state.js";
import { SourceMap, setSourceMaps } from "./errors.js";

const { core } = Deno[Deno.internal];
const LIVE_NAME = "\u0131mports";
const STRICT = '"use strict";';
const MARKER = /^\/\/ (\S.*)$/gm;
const STATELESS = /(?:^|\/)(?:node_modules\/convex\/(?:dist\/(?:esm|cjs)|src)\/|_generated\/(?:server|api)\.js$)/;
// A chunk of nothing but esbuild's own helpers: no file is named in it, and it is not squeezed so that none could be.
const HELPERS = /^var \w+ = Object\.(?:defineProperty|create|getOwnPropertyDescriptor);\n[^]{0,2000}\nexport \{\n/;

/** A module that is missing, malformed or not allowed: becomes the failure of the call that needs it. */
export class ModuleError extends Error {}

class Module {
  constructor(sha, path, source, map) {
    this.sha = sha;
    this.path = path;
    this.source = source;
    this.sourceMap = map === null ? null : new SourceMap(core.encode(map));
    this.scanned = null;
    this.specifiers = null;
    this.compiled = undefined; // null: ineligible
    this.stateless = false;
    this.variants = new Map();
    this.shared = undefined; // exports of a stateless chunk; null when it may not be shared
  }

  prepare() {
    if (this.specifiers !== null) return;
    let record;
    try {
      record = new vm.SourceTextModule(this.source, { identifier: `convex:/${this.path}` });
    } catch (error) {
      throw new ModuleError(`${error.name}: ${error.message} (in ${this.path})`);
    }
    this.specifiers = [...record.dependencySpecifiers];
    const scanned = scan(this.source);
    const found = [...new Set(scanned.imports.map((each) => each.specifier))];
    const agreed = [...new Set(this.specifiers)];
    this.compiled = null;
    if (!scanned.eligible || found.length !== agreed.length || found.some((s, i) => s !== agreed[i])) return;
    this.compiled = this.compile(scanned, []);
    this.stateless = this.isStateless(scanned);
    const { imports, exports, live } = scanned; // The rest is large.
    const names = exports.map(([, exported], i) => [exported, i]).sort((a, b) => (a[0] < b[0] ? -1 : 1));
    this.scanned = { imports, exports, live, names };
  }

  /** The function that evaluates this module, or null. Imports named in `live` are looked up at every use. */
  compile(scanned, live) {
    const parameters = [IMPORT_NAME];
    if (live.length > 0) parameters.push(LIVE_NAME);
    for (const each of scanned.imports) {
      if (each.namespace !== null) parameters.push(each.namespace);
      for (const [, local] of each.names) if (!live.includes(local)) parameters.push(local);
    }
    const exported = scanned.exports.map(([local], i) => (scanned.live[i] ? `()=>${local}` : local));
    const head = live.length > 0 ? `with(${LIVE_NAME}){return(function(){${STRICT}` : STRICT;
    const tail = `\nreturn [${exported.join(",")}];${live.length > 0 ? "}).call(undefined)}" : ""}`;
    try {
      return vm.compileFunction(head + scanned.body + tail, parameters, {
        filename: `convex:/${this.path}`, columnOffset: -head.length,
      });
    } catch {
      return null; // Top-level await, for one: the records say what is wrong with it.
    }
  }

  /** As `compiled`, when some of its imports change after their module was evaluated. */
  compiledWithLive(live) {
    const key = live.join();
    if (!this.variants.has(key)) this.variants.set(key, this.compile(scan(this.source), live));
    return this.variants.get(key);
  }

  /** Whether only the npm package's stateless parts are inside. */
  isStateless(scanned) {
    if (scanned.live.includes(true)) return false;
    const markers = [...this.source.matchAll(MARKER)].map((match) => match[1])
      .filter((text) => !text.startsWith("# sourceMappingURL"));
    if (!markers.every((marker) => STATELESS.test(marker))) return false;
    if (markers.length === 0 && !HELPERS.test(this.source)) return false;
    for (const name of scanned.deferredWrites) if (scanned.topLevel.has(name)) return false;
    return true;
  }
}

// ---- what has been loaded

const modules = new Map(); // `${sha} ${path}` → Module
const bundles = new Map(); // key → {paths: Map(path → sha), closures: Map(path → Closure), modules: Map, asked: Set(path)}

setSourceMaps((file) => {
  const path = file.slice("convex:/".length);
  return bundles.get(currentExecution()?.bundle)?.modules.get(path)?.sourceMap ?? null;
});

export function addBundle(key, paths) {
  bundles.set(key, { key, paths: new Map(Object.entries(paths)), closures: new Map(), modules: new Map(), asked: new Set() });
}

export function addSource(sha, path, source, map) {
  const id = `${sha} ${path}`;
  if (!modules.has(id)) modules.set(id, new Module(sha, path, source, map)); // Two bundles may have asked.
}

/** Forget a bundle and every source that no other bundle names. */
export function forgetBundle(key) {
  bundles.delete(key);
  const used = new Set();
  for (const bundle of bundles.values()) for (const [path, sha] of bundle.paths) used.add(`${sha} ${path}`);
  for (const id of modules.keys()) if (!used.has(id)) modules.delete(id);
}

export function resolve(specifier, importer) {
  if (!specifier.startsWith("./") && !specifier.startsWith("../") && !specifier.startsWith("convex:/")) {
    throw new ModuleError(`Can't import '${specifier}' from ${importer}: only modules of this push can be imported`);
  }
  if (specifier.startsWith("convex:/")) return specifier.slice(8);
  const parts = importer.split("/").slice(0, -1);
  for (const part of specifier.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

function moduleAt(bundle, path, importer) {
  const known = bundle.modules.get(path);
  if (known) return known;
  const sha = bundle.paths.get(path);
  if (sha === undefined) {
    throw new ModuleError(
      importer === null ? `Couldn't find the module '${path}'` : `Couldn't find the module '${path}' imported by ${importer}`,
    );
  }
  const module = modules.get(`${sha} ${path}`);
  if (module) bundle.modules.set(path, module);
  return module ?? null;
}

// ---- closures

class Closure {
  constructor(order, fast) {
    this.order = order; // [{module, dependencies: indexes into order, in the order of module.specifiers}]
    this.paths = order.map((node) => node.module.path);
    this.plan = fast ? makePlan(order) : null;
    this.fast = fast && this.plan.every(({ compiled }) => compiled !== null);
  }
}

/**
 * For each module the function to call and where its parameters come from: [index in order, index of the export, or
 * -1 for a namespace], and the same with a name for imports that are live.
 */
function makePlan(order) {
  return order.map(({ module, byName }) => {
    const sources = [];
    const live = [];
    for (const each of module.scanned.imports) {
      const at = byName.get(each.specifier);
      const target = order[at].module.scanned;
      if (each.namespace !== null) sources.push([at, -1]);
      for (const [imported, local] of each.names) {
        const index = target.exports.findIndex(([, exported]) => exported === imported);
        if (index < 0) {
          throw new ModuleError(
            `SyntaxError: The module '${order[at].module.path}' imported by ${module.path} has no export named '${imported}'`,
          );
        }
        if (target.live[index]) live.push([at, index, local]);
        else sources.push([at, index]);
      }
    }
    const compiled = live.length === 0 ? module.compiled : module.compiledWithLive(live.map(([, , local]) => local));
    return { module, compiled, sources, live };
  });
}

/**
 * The closure of an entry module, or, when sources have not arrived yet, the paths of those to ask for: each once for
 * a bundle, however many calls wait for it. (Sources asked for by every call of a burst would fill the heap.)
 * @returns {{closure: Closure} | {unasked: string[]}}
 */
export function closureOf(bundleKey, path) {
  const bundle = bundles.get(bundleKey);
  const known = bundle.closures.get(path);
  if (known) return { closure: known };
  const order = [];
  const nodes = new Map(); // path → node; node.at is null while its dependencies are being visited
  const missing = [];
  let cyclic = false;
  const visit = (modulePath, importer) => {
    const seen = nodes.get(modulePath);
    if (seen) {
      if (seen.at === null) cyclic = true;
      return seen;
    }
    const module = moduleAt(bundle, modulePath, importer);
    if (module === null) {
      if (!missing.includes(modulePath)) missing.push(modulePath);
      return null;
    }
    module.prepare();
    const node = { module, at: null, nodes: [], byName: new Map() };
    nodes.set(modulePath, node);
    for (const specifier of module.specifiers) node.nodes.push(visit(resolve(specifier, modulePath), modulePath));
    node.at = order.push(node) - 1;
    return node;
  };
  visit(path, null);
  if (missing.length > 0) {
    const unasked = missing.filter((each) => !bundle.asked.has(each));
    for (const each of unasked) bundle.asked.add(each);
    return { unasked };
  }
  for (const node of order) {
    node.module.specifiers.forEach((specifier, i) => node.byName.set(specifier, node.nodes[i].at));
  }
  const fast = !cyclic && order.every((node) => node.module.compiled !== null);
  const closure = new Closure(order, fast);
  bundle.closures.set(path, closure);
  return { closure };
}

// ---- instances

let sharing = true;

export function setSharing(value) {
  sharing = value;
}

function namespaceOf(module, values) {
  const namespace = Object.create(null);
  const { live, names } = module.scanned;
  for (const [name, i] of names) {
    if (live[i]) Object.defineProperty(namespace, name, { get: values[i], enumerable: true });
    else namespace[name] = values[i];
  }
  Object.defineProperty(namespace, Symbol.toStringTag, { value: "Module" });
  return Object.freeze(namespace);
}

function liveScope(live, instances) {
  const scope = Object.create(null);
  for (const [at, index, local] of live) Object.defineProperty(scope, local, { get: instances[at][index] });
  return Object.freeze(scope);
}

function instantiateFast({ plan }, loader) {
  const instances = new Array(plan.length);
  const shared = new Array(plan.length);
  for (let i = 0; i < plan.length; i++) {
    const { module, compiled, sources, live } = plan[i];
    if (module.shared) {
      instances[i] = module.shared;
      shared[i] = true;
      continue;
    }
    const known = loader?.instances.get(module);
    if (known !== undefined) {
      instances[i] = known;
      shared[i] = known === module.shared;
      continue;
    }
    const values = [loader === null || module.stateless ? dynamicImport : loader.importer(module.path)];
    let onlyShared = live.length === 0;
    if (!onlyShared) values.push(liveScope(live, instances));
    for (let j = 0; j < sources.length; j++) {
      const [at, index] = sources[j];
      onlyShared &&= shared[at] === true;
      values.push(index < 0 ? namespaceOf(plan[at].module, instances[at]) : instances[at][index]);
    }
    instances[i] = Reflect.apply(compiled, undefined, values);
    if (module.shared === undefined) {
      module.shared = sharing && onlyShared && module.stateless && freezeDeep(instances[i]) ? instances[i] : null;
      shared[i] = module.shared !== null;
    }
    loader?.instances.set(module, instances[i]);
  }
  const last = plan.length - 1;
  return namespaceOf(plan[last].module, instances[last]);
}

/** Freeze all that can be reached; false when something in it cannot be frozen. */
function freezeDeep(root) {
  const seen = new Set();
  const found = [];
  const todo = [root];
  while (todo.length > 0) {
    const value = todo.pop();
    if (value === null || (typeof value !== "object" && typeof value !== "function") || seen.has(value)) continue;
    seen.add(value);
    if (core.isProxy(value)) {
      todo.push(...core.getProxyDetails(value));
      continue;
    }
    if (realm.has(value)) continue;
    if (
      core.isMap(value) || core.isSet(value) || core.isWeakMap(value) || core.isWeakSet(value) || core.isDate(value)
      || core.isAnyArrayBuffer(value) || core.isArrayBufferView(value) || core.isPromise(value)
      || core.isGeneratorObject(value) || (core.isRegExp(value) && (value.global || value.sticky))
    ) return false;
    found.push(value);
    todo.push(Object.getPrototypeOf(value));
    for (const key of Reflect.ownKeys(value)) {
      const property = Object.getOwnPropertyDescriptor(value, key);
      if ("value" in property) todo.push(property.value);
      else todo.push(property.get, property.set);
    }
  }
  found.forEach(Object.freeze);
  return true;
}

let realm = new Set(); // intrinsics, already frozen

export function setRealm(objects) {
  realm = objects;
}

function refuseDynamicImport(specifier) {
  const error = new TypeError(`Can't import '${specifier}' dynamically in queries and mutations: import it at the top of the file`);
  Object.defineProperty(error, "code", { value: "NoDynamicImport", configurable: true, writable: true });
  throw error;
}

/** What `import` means in compiled functions: `import(x)` and `import.meta`. */
const dynamicImport = Object.assign(async (specifier) => refuseDynamicImport(String(specifier)), {
  meta: Object.freeze(Object.create(null)),
});

let recordsMade = 0;

/** How many module records have been made: V8 never frees one, so a process that made many is worn. */
export function moduleRecordsMade() {
  return recordsMade;
}

function instantiateRecords(closure, loader) {
  const made = new Set();
  const records = closure.order.map(({ module }) => {
    const known = loader?.records.get(module);
    if (known !== undefined) return known;
    recordsMade++;
    const importModuleDynamically = loader === null ? refuseDynamicImport : loader.importer(module.path);
    const record = new vm.SourceTextModule(module.source, { identifier: `convex:/${module.path}`, importModuleDynamically });
    loader?.records.set(module, record);
    made.add(record);
    return record;
  });
  closure.order.forEach((node, i) => {
    if (made.has(records[i])) records[i].linkRequests(node.nodes.map((dependency) => records[dependency.at]));
  });
  const entry = records[records.length - 1];
  try {
    entry.instantiate();
  } catch (error) {
    throw new ModuleError(`${error.name}: ${error.message} (in ${closure.paths[closure.paths.length - 1]})`);
  }
  const evaluated = entry.evaluate();
  evaluated.catch(() => {});
  const [status, result] = core.getPromiseDetails(evaluated);
  if (status === 2) throw result;
  if (status !== 1) throw new ModuleError("Top-level awaits in source files are unsupported");
  return entry.namespace;
}

/**
 * Evaluate a closure and give the entry's exports. Throws what user code throws. Everything is evaluated afresh, but for
 * what `loader` holds: the modules that an action, which may import dynamically, has already.
 */
export function instantiate(closure, loader = null) {
  return closure.fast ? instantiateFast(closure, loader) : instantiateRecords(closure, loader);
}

export function moduleIn(bundleKey, path) {
  return bundles.get(bundleKey)?.modules.get(path) ?? null;
}

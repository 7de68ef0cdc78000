// Modules: what was pushed, compiled once here, instantiated afresh for every execution.
//
// A bundle maps paths to hashes; sources are kept by hash and path and shared by bundles. An entry module and
// all it imports form a closure. When every module of a closure is eligible (scanner.js) the closure is a list of
// compiled functions to call in order; otherwise V8's module records are made, linked and evaluated each time.
// Chunks that hold nothing but the npm package `convex` and generated glue keep no state between calls: they are
// evaluated once, frozen to the bottom and shared, after checking that none of their bindings changes later.
// Source: reference/runtime-and-database.md §3.4; why it is so: docs/adr (isolation inside a Deno child).

import vm from "node:vm";
import { scan } from "./scanner.js";
import { currentExecution } from "./state.js";
import { SourceMap, setSourceMaps } from "./errors.js";

const { core } = Deno[Deno.internal];
const STRICT = '"use strict";';
const MARKER = /^\/\/ (\S.*)$/gm;
const STATELESS = /(?:^|\/)(?:node_modules\/convex\/(?:dist\/(?:esm|cjs)|src)\/|_generated\/(?:server|api)\.js$)/;

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
    this.cachedData = undefined;
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
    this.cachedData = null;
    const scanned = scan(this.source);
    const found = [...new Set(scanned.imports.map((each) => each.specifier))];
    const agreed = [...new Set(this.specifiers)];
    this.compiled = null;
    if (!scanned.eligible || found.length !== agreed.length || found.some((s, i) => s !== agreed[i])) return;
    this.compile(scanned);
  }

  compile(scanned) {
    const parameters = [];
    for (const each of scanned.imports) {
      if (each.namespace !== null) parameters.push(each.namespace);
      for (const [, local] of each.names) parameters.push(local);
    }
    this.scanned = scanned;
    const exported = scanned.exports.map(([local]) => local);
    const tail = `\nreturn [${exported.join(",")}];`;
    try {
      this.compiled = vm.compileFunction(STRICT + scanned.body + tail, parameters, {
        filename: `convex:/${this.path}`, columnOffset: -STRICT.length,
      });
    } catch {
      this.compiled = null; // Top-level await, for one: the records say what is wrong with it.
    }
  }

  /** Whether only the npm package's stateless parts are inside. */
  mayBeShared() {
    if (this.compiled === null) return false;
    const markers = [...this.source.matchAll(MARKER)].map((match) => match[1])
      .filter((text) => !text.startsWith("# sourceMappingURL"));
    if (markers.length === 0 || !markers.every((marker) => STATELESS.test(marker))) return false;
    if (!markers.some((marker) => marker.includes("node_modules/convex/"))) return false;
    for (const name of this.scanned.deferredWrites) if (this.scanned.topLevel.has(name)) return false;
    return true;
  }
}

// ---- what has been loaded

const modules = new Map(); // `${sha} ${path}` → Module
const bundles = new Map(); // key → {paths: Map(path → sha), closures: Map(path → Closure), modules: Map}

setSourceMaps((file) => {
  const path = file.slice("convex:/".length);
  return bundles.get(currentExecution()?.bundle)?.modules.get(path)?.sourceMap ?? null;
});

export function addBundle(key, paths) {
  bundles.set(key, { key, paths: new Map(Object.entries(paths)), closures: new Map(), modules: new Map() });
}

export function addSource(sha, path, source, map) {
  modules.set(`${sha} ${path}`, new Module(sha, path, source, map));
}

/** Forget a bundle and every source that no other bundle names. */
export function forgetBundle(key) {
  bundles.delete(key);
  const used = new Set();
  for (const bundle of bundles.values()) for (const [path, sha] of bundle.paths) used.add(`${sha} ${path}`);
  for (const id of modules.keys()) if (!used.has(id)) modules.delete(id);
}

function resolve(specifier, importer) {
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
    this.fast = fast;
    this.paths = order.map((node) => node.module.path);
    this.plan = fast ? makePlan(order) : null;
  }
}

/** For each module, where its parameters come from: [index in order, index of the export or -1 for all]. */
function makePlan(order) {
  return order.map(({ module, byName }) => {
    const sources = [];
    for (const each of module.scanned.imports) {
      const at = byName.get(each.specifier);
      const target = order[at].module.scanned;
      if (each.namespace !== null) sources.push([at, -1]);
      for (const [imported] of each.names) {
        const index = target.exports.findIndex(([, exported]) => exported === imported);
        if (index < 0) {
          throw new ModuleError(
            `SyntaxError: The module '${order[at].module.path}' imported by ${module.path} has no export named '${imported}'`,
          );
        }
        sources.push([at, index]);
      }
    }
    return { module, sources };
  });
}

/**
 * The closure of an entry module, or the list of paths whose source has not arrived yet.
 * @returns {{closure: Closure} | {missing: string[]}}
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
  if (missing.length > 0) return { missing };
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
  const names = module.scanned.exports.map(([, exported], i) => [exported, i]).sort((a, b) => (a[0] < b[0] ? -1 : 1));
  for (const [name, i] of names) namespace[name] = values[i];
  Object.defineProperty(namespace, Symbol.toStringTag, { value: "Module" });
  return Object.freeze(namespace);
}

function instantiateFast(closure) {
  const instances = new Array(closure.plan.length);
  const shared = new Array(closure.plan.length);
  for (let i = 0; i < closure.plan.length; i++) {
    const { module, sources } = closure.plan[i];
    if (module.shared) {
      instances[i] = module.shared;
      shared[i] = true;
      continue;
    }
    const values = new Array(sources.length);
    let onlyShared = true;
    for (let j = 0; j < sources.length; j++) {
      const [at, index] = sources[j];
      onlyShared &&= shared[at] === true;
      values[j] = index < 0 ? namespaceOf(closure.plan[at].module, instances[at]) : instances[at][index];
    }
    instances[i] = Reflect.apply(module.compiled, undefined, values);
    if (module.shared === undefined) {
      module.shared = sharing && onlyShared && module.mayBeShared() && freezeDeep(instances[i]) ? instances[i] : null;
      shared[i] = module.shared !== null;
    }
  }
  const last = closure.plan.length - 1;
  return namespaceOf(closure.plan[last].module, instances[last]);
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
  error.code = "NoDynamicImport";
  throw error;
}

function instantiateRecords(closure) {
  const records = closure.order.map(({ module }) => {
    const options = { identifier: `convex:/${module.path}`, importModuleDynamically: refuseDynamicImport };
    if (module.cachedData) options.cachedData = module.cachedData;
    const record = new vm.SourceTextModule(module.source, options);
    if (!module.cachedData && typeof record.createCachedData === "function") {
      module.cachedData = record.createCachedData();
    }
    return record;
  });
  closure.order.forEach((node, i) => records[i].linkRequests(node.nodes.map((dependency) => records[dependency.at])));
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

/** Evaluate a closure afresh and give the entry's exports. Throws what user code throws. */
export function instantiate(closure) {
  return closure.fast ? instantiateFast(closure) : instantiateRecords(closure);
}

export function moduleIn(bundleKey, path) {
  return bundles.get(bundleKey)?.modules.get(path) ?? null;
}

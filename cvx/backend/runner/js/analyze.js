// What a module exports, for a push: functions, routes, crons, a schema, an auth config, an app definition.
//
// Everything here reads what user code made, so any step may throw; the caller turns that into a failure of the
// module. Nothing here is reached by queries and mutations.
// Source: reference/runtime-and-database.md §1.9.

import { ModuleError } from "./modules.js";

const KINDS = [["isQuery", "query"], ["isMutation", "mutation"], ["isAction", "action"]];

function offsetToLine(source, offset) {
  const before = source.slice(0, offset);
  const line = before.split("\n").length - 1;
  return [line, offset - (before.lastIndexOf("\n") + 1)];
}

/** Where a function is written, found by its own text: functions do not tell where they come from. */
class Positions {
  constructor(closure) {
    this.nodes = [...closure.order].reverse().map((node) => node.module); // the entry first
    this.used = new Map(); // text → how many functions with it have been placed
  }

  find(handler) {
    if (typeof handler !== "function") return null;
    const text = Function.prototype.toString.call(handler);
    if (text.includes("[native code]")) return null;
    const seen = this.used.get(text) ?? 0;
    this.used.set(text, seen + 1);
    for (const module of this.nodes) {
      let at = module.source.indexOf(text);
      for (let i = 0; i < seen && at >= 0; i++) {
        const next = module.source.indexOf(text, at + 1);
        if (next < 0) break;
        at = next;
      }
      if (at < 0) continue;
      const [line, column] = offsetToLine(module.source, at);
      const map = module.sourceMap;
      if (map === null) return { path: module.path, line: line + 1, column: column + 1, offset: at, index: null };
      const found = map.find(line, column);
      if (found === null) return null;
      return { path: map.sources[found[0]], line: found[1] + 1, column: found[2] + 1, offset: at, index: found[0] };
    }
    return null;
  }
}

function exportedText(value, name) {
  const method = value[name];
  if (typeof method !== "function") return null;
  const text = Reflect.apply(method, value, []);
  if (typeof text !== "string") throw new ModuleError(`${name} did not return a string`);
  return text;
}

function describeFunction(name, value, positions) {
  if (value === null || (typeof value !== "object" && typeof value !== "function")) return null;
  const kinds = KINDS.filter(([flag]) => value[flag] === true);
  if (kinds.length !== 1) return null;
  const isPublic = value.isPublic === true;
  const isInternal = value.isInternal === true;
  if (isPublic && isInternal) return null;
  return {
    name,
    kind: kinds[0][1],
    visibility: isPublic ? "public" : isInternal ? "internal" : null,
    args: exportedText(value, "exportArgs"),
    returns: exportedText(value, "exportReturns"),
    position: positions.find(value._handler),
  };
}

function describeRoutes(router, positions) {
  if (!router || router.isRouter !== true) {
    throw new ModuleError("The default export of http.js must be a router: `export default httpRouter()`");
  }
  return router.getRoutes().map(([path, method, handler]) => ({
    path: String(path), method: String(method), position: positions.find(handler?._handler),
  }));
}

function describeCrons(crons) {
  if (!crons || crons.isCrons !== true) {
    throw new ModuleError("The default export of crons.js must be cron jobs: `export default cronJobs()`");
  }
  return exportedText(crons, "export");
}

function describeModule(path, namespace, closure) {
  const positions = new Positions(closure);
  const functions = [];
  for (const name of Object.keys(namespace)) {
    const found = describeFunction(name, namespace[name], positions);
    if (found !== null) functions.push(found);
  }
  const order = (each) => each.position?.offset ?? Infinity;
  functions.sort((a, b) => (order(a) < order(b) ? -1 : order(a) > order(b) ? 1 : 0));
  return {
    functions,
    routes: path === "http.js" ? describeRoutes(namespace.default, positions) : null,
    crons: path === "crons.js" ? describeCrons(namespace.default) : null,
    sourceIndex: functions.find((each) => each.position?.index != null)?.position.index ?? null,
    reuseContext: namespace.experimental_reuseContext === true,
  };
}

function exportOf(namespace, path) {
  const value = namespace.default;
  if (value === null || (typeof value !== "object" && typeof value !== "function") || typeof value.export !== "function") {
    throw new ModuleError(`${path} must have a default export with a method export()`);
  }
  const exported = value.export();
  return typeof exported === "string" ? exported : JSON.stringify(exported);
}

/** The answer of one `analyze` message as JSON text. `mode`: module, schema, auth or definition. */
export function describe(mode, path, namespace, closure) {
  switch (mode) {
    case "module": return JSON.stringify(describeModule(path, namespace, closure));
    case "auth": {
      if (namespace.default === undefined) throw new ModuleError(`${path} must have a default export`);
      return JSON.stringify(namespace.default);
    }
    default: return exportOf(namespace, path);
  }
}

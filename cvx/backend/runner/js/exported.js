// What a module exports, as far as running it goes.

import { ModuleError } from "./modules.js";

/** "query", "mutation" or "action"; null for what is not exactly one of them. */
export function kindOf(found) {
  const isQuery = found?.isQuery === true;
  const isMutation = found?.isMutation === true;
  const isAction = found?.isAction === true;
  if (isQuery + isMutation + isAction !== 1) return null;
  return isQuery ? "query" : isMutation ? "mutation" : "action";
}

/** The function that an execution is to run. Throws ModuleError when it is not there or of another kind. */
export function exportedFunction(namespace, { path, name, kind: wanted }) {
  if (!Object.hasOwn(namespace, name)) throw new ModuleError(`Couldn't find '${name}' among the exports of '${path}'`);
  const found = namespace[name];
  const kind = kindOf(found);
  const place = `${path.replace(/\.js$/, "")}:${name}`;
  if (kind === null) {
    const [what, how] = wanted === "action" ? ["not an action", "action()"] : ["neither a query or mutation", "query() or mutation()"];
    throw new ModuleError(`The function '${place}' is ${what}: export it with ${how}`);
  }
  if (kind !== wanted) {
    throw new ModuleError(`Function '${place}' is registered as a ${kind} but is being run as a ${wanted}`);
  }
  return found;
}

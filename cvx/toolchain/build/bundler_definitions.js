/**
 * Runs component definitions, the only user code that ever runs in the tooling: each in a worker of its own
 * without any permission, with a deadline.
 *
 * Source: reference/cli-and-deploy.md §2.11 (definitions).
 */

import { base64url } from "./bundler_plugins.js";

const EVALUATION_DEADLINE_MS = 10_000;

/** Runs in the worker: evaluate one definition module, answer what its export() says. */
const WORKER = `
globalThis.process ??= { env: {} };
self.onmessage = async ({ data }) => {
  try {
    const definition = (await import(data)).default;
    if (typeof definition?.export !== "function") {
      throw new Error("the default export is not made by defineApp() or defineComponent()");
    }
    self.postMessage({ value: JSON.stringify(definition.export()) });
  } catch (error) {
    self.postMessage({ problem: String(error?.message ?? error) });
  }
};`;

/** What each definition exports; `sources` stand after the definitions they import. */
export async function evaluate(sources) {
  const urls = new Map();
  const evaluated = [];
  for (const { path: definitionPath, source, dependencies } of sources) {
    let code = source;
    for (const dependency of dependencies) {
      code = code.replaceAll(`./_componentDeps/${base64url(dependency)}`, urls.get(dependency));
    }
    const outcome = await inWorker(dataUrl(code));
    if (outcome.problem !== undefined) return { problem: outcome.problem, at: definitionPath };
    evaluated.push(outcome.value);
    const type = JSON.parse(outcome.value).definitionType;
    const stub = { componentDefinitionPath: definitionPath, defaultName: type?.name };
    urls.set(definitionPath, dataUrl(`export default ${JSON.stringify(stub)};`));
  }
  return { evaluated };
}

function inWorker(url) {
  return new Promise((resolve) => {
    const worker = new Worker(dataUrl(WORKER), { type: "module", deno: { permissions: "none" } });
    const finish = (outcome) => {
      clearTimeout(timer);
      worker.terminate();
      resolve(outcome);
    };
    const timer = setTimeout(() => finish({ problem: "it did not end within 10 s" }), EVALUATION_DEADLINE_MS);
    worker.onmessage = ({ data }) => finish(data);
    worker.onerror = (event) => {
      event.preventDefault();
      finish({ problem: event.message });
    };
    worker.postMessage(url);
  });
}

function dataUrl(code) {
  return `data:text/javascript;base64,${new TextEncoder().encode(code).toBase64()}`;
}

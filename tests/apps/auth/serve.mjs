// The page, bundled and served, and the provider its people sign in at; until standard input ends.

import { createServer } from "node:http";
import { build } from "esbuild";
import { startProvider } from "./provider.mjs";

const origin = `http://127.0.0.1:${process.env.PAGE_PORT}`;
const bundle = await build({ entryPoints: ["page/main.tsx"], bundle: true, write: false, jsx: "automatic", minify: true, define: { "process.env.NODE_ENV": '"production"' } });
const provider = await startProvider({ port: Number(process.env.OIDC_PORT), redirectUris: [`${origin}/`], idTokenSeconds: Number(process.env.ID_TOKEN_SECONDS) });
const page = `<!doctype html><meta charset="utf-8"><div id="root"></div><script>
window.CONVEX_URL = ${JSON.stringify(process.argv[2])};
window.OIDC_ISSUER = ${JSON.stringify(provider.issuer)};
</script><script src="/main.js"></script>`;
createServer((request, response) => {
  const isScript = request.url === "/main.js";
  response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
  response.end(isScript ? bundle.outputFiles[0].text : page);
}).listen(Number(process.env.PAGE_PORT), "127.0.0.1", () => console.log("ready"));
process.stdin.on("end", () => process.exit(0)).resume();

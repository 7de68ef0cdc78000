// The page, bundled and served, the provider of "sign in with work", and a post office; until standard input ends.

import { createServer } from "node:http";
import { build } from "esbuild";
import { startProvider } from "./provider.mjs";

const bundle = await build({ entryPoints: ["page/main.tsx"], bundle: true, write: false, jsx: "automatic", minify: true, define: { "process.env.NODE_ENV": '"production"' } });
await startProvider({
  port: Number(process.env.OIDC_PORT),
  redirectUris: [`${process.env.CONVEX_SITE}/api/auth/callback/work`],
  clientSecret: process.env.OIDC_SECRET,
});
let mail = "{}";
createServer((request, response) => {
  if (request.method === "GET") return response.end(mail);
  mail = "";
  request.on("data", (chunk) => (mail += chunk)).on("end", () => response.end());
}).listen(Number(process.env.MAIL_PORT), "127.0.0.1");
const page = `<!doctype html><meta charset="utf-8"><div id="root"></div><script>window.CONVEX_URL = ${JSON.stringify(process.argv[2])}</script><script src="/main.js"></script>`;
createServer((request, response) => {
  const isScript = request.url === "/main.js";
  response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
  response.end(isScript ? bundle.outputFiles[0].text : page);
}).listen(Number(process.env.PAGE_PORT), "127.0.0.1", () => console.log("ready"));
process.stdin.on("end", () => process.exit(0)).resume();

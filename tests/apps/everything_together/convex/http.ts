import { httpRouter } from "convex/server";
import type { Id } from "./_generated/dataModel";
import { internal } from "./_generated/api";
import { httpAction } from "./_generated/server";
import { maybeFail } from "./failing";

const http = httpRouter();
http.route({
  pathPrefix: "/received/",
  method: "POST",
  handler: httpAction(async (ctx, request) => {
    const { pathname, searchParams } = new URL(request.url);
    const chain = decodeURIComponent(pathname.slice("/received/".length));
    const fail = JSON.parse(decodeURIComponent(request.headers.get("X-Fail") ?? "null")) ?? undefined;
    const text = await request.text();
    maybeFail("http", fail);
    const given = searchParams.get("file") as Id<"_storage">;
    const place = await ctx.runQuery(internal.chain.whereIs, { file: given });
    if (place === null || place.size !== new TextEncoder().encode(text).length) return new Response("not the file", { status: 400 });
    // Another copy, of what came over the network.
    const file = await ctx.storage.store(new Blob([text]));
    const told: { found: number; digest: string } = await ctx.runAction(internal.machine.digest, { chain, file, text, fail });
    await ctx.storage.delete(given);
    return new Response(`found: ${told.digest}`, { status: 200, headers: { "X-Found": String(told.found) } });
  }),
});
http.route({
  path: "/big",
  method: "POST",
  handler: httpAction(async (_, request) => {
    let bytes = 0;
    for await (const piece of request.body!) bytes += piece.length;
    return new Response(String(bytes));
  }),
});
http.route({
  path: "/down",
  method: "GET",
  handler: httpAction(async (_, request) => new Response(new Uint8Array(Number(new URL(request.url).searchParams.get("bytes"))))),
});
export default http;

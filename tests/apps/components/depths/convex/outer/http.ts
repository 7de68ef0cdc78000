import { httpRouter } from "convex/server";
import { api } from "./_generated/api";
import { env, httpAction } from "./_generated/server";

const http = httpRouter();
const cors = { "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Methods": "GET, POST", Vary: "Origin" };

http.route({ path: "/items", method: "OPTIONS", handler: httpAction(async () => new Response(null, { status: 204, headers: cors })) });

/** Everything that an HTTP action can do, here. */
http.route({
  path: "/items",
  method: "POST",
  handler: httpAction(async (ctx, request) => {
    const { name, rank } = (await request.json()) as { name: string; rank: number };
    const id: string = await ctx.runMutation(api.items.add, { name, rank, place: [rank, 1] });
    const near = (await ctx.vectorSearch("items", "by_place", { vector: [rank, 1], limit: 1 })).length;
    const stored = await ctx.storage.store(new Blob([name]));
    const url = await ctx.storage.getUrl(stored);
    const found: string[] = await ctx.runAction(api.items.near, { vector: [rank, 1] });
    return Response.json({ id, near, url, found, word: env.WORD }, { status: 201, headers: cors });
  }),
});

/** Line by line, each only when the one before has gone. */
http.route({
  path: "/stream",
  method: "GET",
  handler: httpAction(async (ctx) => {
    const items: { name: string }[] = await ctx.runQuery(api.items.ranked, { from: 0 });
    const { readable, writable } = new TransformStream();
    void (async () => {
      const writer = writable.getWriter();
      for (const { name } of items) await writer.write(new TextEncoder().encode(`${env.WORD}: ${name}\n`));
      await writer.close();
    })();
    return new Response(readable, { headers: { ...cors, "Content-Type": "text/plain" } });
  }),
});

http.route({
  path: "/fails",
  method: "GET",
  handler: httpAction(async () => {
    throw new Error("the route of a component failed");
  }),
});

export default http;

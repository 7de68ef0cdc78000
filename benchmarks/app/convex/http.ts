import { httpRouter } from "convex/server";
import { api } from "./_generated/api";
import { httpAction } from "./_generated/server";

const http = httpRouter();

http.route({ path: "/pong", method: "POST", handler: httpAction(async () => new Response("pong")) });

// Reads its body, runs the smallest query.
http.route({
  path: "/one",
  method: "POST",
  handler: httpAction(async (ctx, request) => Response.json(await ctx.runQuery(api.bench.one, await request.json()))),
});

export default http;

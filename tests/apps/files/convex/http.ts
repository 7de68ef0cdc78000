// Uploads and downloads through HTTP actions: where the request itself must be looked at.

import { httpRouter } from "convex/server";
import { api } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { httpAction } from "./_generated/server";

const http = httpRouter();

http.route({
  path: "/photos",
  method: "POST",
  handler: httpAction(async (ctx, request) => {
    if (request.headers.get("X-Upload-Key") !== "letmein") return new Response("not you", { status: 403 });
    const file = await ctx.storage.store(await request.blob());
    await ctx.runMutation(api.photos.add, { file, caption: "posted", author: "a script" });
    return Response.json({ file }, { status: 201 });
  }),
});

http.route({
  pathPrefix: "/photos/",
  method: "GET",
  handler: httpAction(async (ctx, request) => {
    const blob = await ctx.storage.get(new URL(request.url).pathname.split("/").at(-1) as Id<"_storage">);
    return blob === null ? new Response("no such photo", { status: 404 }) : new Response(blob);
  }),
});

export default http;

import { httpRouter } from "convex/server";
import { api } from "./_generated/api";
import { env, httpAction } from "./_generated/server";

const http = httpRouter();

http.route({
  path: "/books",
  method: "GET",
  handler: httpAction(async (ctx, request) => {
    const books = await ctx.runQuery(api.books.list, {});
    return Response.json({
      library: env.LIBRARY_NAME,
      titles: books.map((book: { title: string }) => book.title),
      path: new URL(request.url).pathname,
      identity: await ctx.auth.getUserIdentity(),
    });
  }),
});

http.route({
  pathPrefix: "/shelf/",
  method: "POST",
  handler: httpAction(async (ctx, request) => {
    const title = await request.text();
    await ctx.runMutation(api.books.add, { title, copies: 1 });
    return new Response(`${env.LIBRARY_NAME} has ${title}`, { status: 201 });
  }),
});

export default http;

import { httpRouter } from "convex/server";
import { httpAction } from "./_generated/server";
import { internal } from "./_generated/api";

const http = httpRouter();

http.route({
  path: "/whoami",
  method: "GET",
  handler: httpAction(async (ctx) => {
    try {
      const identity = await ctx.auth.getUserIdentity();
      const seenByQuery = await ctx.runQuery(internal.everywhere.seenByQuery);
      return Response.json({ subject: identity?.subject ?? null, seenByQuery: seenByQuery ?? null });
    } catch (error) {
      // A header that is no good: here is where the app says what that means.
      return new Response((error as Error).message, { status: 401 });
    }
  }),
});

export default http;

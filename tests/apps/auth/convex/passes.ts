import { mutation } from "./_generated/server";
import { v } from "convex/values";
import { currentUser } from "./users";

/** A token for another service: it can check it against this deployment's public keys. */
export const issue = mutation({
  args: { room: v.string() },
  returns: v.string(),
  handler: async (ctx, { room }) => {
    const user = await currentUser(ctx);
    return await ctx.auth.signJwt({ claims: { sub: user._id, room }, expiresInSeconds: 60 });
  },
});

/** The same with whatever is asked for, to see what is refused. */
export const attempt = mutation({
  args: { claims: v.any(), seconds: v.any() },
  handler: async (ctx, { claims, seconds }) => {
    try {
      return await ctx.auth.signJwt({ claims, expiresInSeconds: seconds });
    } catch (error) {
      return (error as Error).message;
    }
  },
});

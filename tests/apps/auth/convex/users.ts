import { mutation, query } from "./_generated/server";
import type { MutationCtx, QueryCtx } from "./_generated/server";
import { ConvexError, v } from "convex/values";

/** Who is signed in, as the identity provider says. */
export const identity = query({
  args: {},
  handler: async (ctx) => await ctx.auth.getUserIdentity(),
});

/** Called by the page after signing in: the user's own row. */
export const store = mutation({
  args: {},
  returns: v.id("users"),
  handler: async (ctx) => {
    const identity = await ctx.auth.getUserIdentity();
    if (identity === null) throw new ConvexError("Sign in first.");
    const { tokenIdentifier, name = "Anonymous" } = identity;
    const user = await userByToken(ctx, tokenIdentifier);
    if (user === null) return await ctx.db.insert("users", { tokenIdentifier, name });
    if (user.name !== name) await ctx.db.patch(user._id, { name });
    return user._id;
  },
});

/** The signed-in user's row. Throws when nobody is signed in. */
export async function currentUser(ctx: QueryCtx | MutationCtx) {
  const identity = await ctx.auth.getUserIdentity();
  const user = identity && (await userByToken(ctx, identity.tokenIdentifier));
  if (!user) throw new ConvexError("Sign in first.");
  return user;
}

async function userByToken(ctx: QueryCtx | MutationCtx, token: string) {
  return await ctx.db
    .query("users")
    .withIndex("by_token", (q) => q.eq("tokenIdentifier", token))
    .unique();
}

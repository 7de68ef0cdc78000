import { v } from "convex/values";
import { internal } from "./_generated/api";
import { internalMutation } from "./_generated/server";

const BATCH = 100;

/** Delete drafts that nobody has touched for a while: a batch now, the rest by scheduling itself. */
export const cleanUp = internalMutation({
  args: { olderThanMs: v.number() },
  handler: async (ctx, { olderThanMs }) => {
    const old = await ctx.db
      .query("posts")
      .withIndex("by_state", (q) => q.eq("state", "draft").lt("touched", Date.now() - olderThanMs))
      .take(BATCH);
    for (const draft of old) await ctx.db.delete(draft._id);
    if (old.length === BATCH) await ctx.scheduler.runAfter(0, internal.drafts.cleanUp, { olderThanMs });
    return old.length;
  },
});

import { v } from "convex/values";
import { api, internal } from "./_generated/api";
import { action, internalAction } from "./_generated/server";

/** An action of the default runtime that needs Node for one step. */
export const digest = action({
  args: { text: v.string() },
  returns: v.string(),
  handler: async (ctx, { text }): Promise<string> => {
    const hash = await ctx.runAction(api.machine.hash, { text });
    return `sha256:${hash}`;
  },
});

export const pay = action({
  args: { amount: v.number() },
  returns: v.string(),
  handler: async (ctx, args): Promise<string> => await ctx.runAction(internal.billing.charge, args),
});

export const deeper = internalAction({
  args: { levels: v.number() },
  returns: v.number(),
  handler: async (ctx, args): Promise<number> => await ctx.runAction(api.behaviour.deep, args),
});

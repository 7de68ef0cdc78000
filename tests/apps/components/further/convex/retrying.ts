import { ActionRetrier, onCompleteValidator, type RunId } from "@convex-dev/action-retrier";
import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import { internalAction, internalMutation, mutation, query } from "./_generated/server";

const retrier = new ActionRetrier(components.actionRetrier, { initialBackoffMs: 20, base: 2, maxFailures: 3 });

export const flaky = internalAction({
  args: { failures: v.number() },
  handler: async (ctx, { failures }): Promise<string> => {
    const tries: number = await ctx.runMutation(internal.notes.note, { what: `flaky ${failures}`, value: null });
    if (tries < failures) throw new Error(`failure ${tries + 1}`);
    return "done at last";
  },
});

export const completed = internalMutation({
  args: onCompleteValidator,
  handler: async (ctx, { result }) => {
    await ctx.db.insert("notes", { what: "completed", value: result });
  },
});

export const begin = mutation({
  args: { failures: v.number() },
  handler: async (ctx, args): Promise<string> =>
    await retrier.run(ctx, internal.retrying.flaky, args, { onComplete: internal.retrying.completed }),
});

export const status = query({
  args: { id: v.string() },
  handler: async (ctx, { id }): Promise<any> => await retrier.status(ctx, id as RunId),
});

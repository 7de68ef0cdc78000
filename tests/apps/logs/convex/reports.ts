import { action, internalAction } from "./_generated/server";
import { internal } from "./_generated/api";
import { v } from "convex/values";

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

// An action's lines are there while it runs.
export const slow = action({
  args: { steps: v.number() },
  handler: async (_ctx, { steps }) => {
    for (let n = 1; n <= steps; n++) {
      console.log("step", n);
      await pause(150);
    }
    console.warn("done");
    return steps;
  },
});

export const nested = action({
  args: {},
  handler: async (ctx) => {
    console.log("outer begins");
    await ctx.runMutation(internal.orders.reserve, { item: "nib", count: 1 });
    await ctx.runAction(internal.reports.inner, {});
    console.log("outer ends");
  },
});

export const inner = internalAction({
  args: {},
  handler: async (ctx) => {
    console.log("inner");
    await ctx.runMutation(internal.orders.reserve, { item: "nib", count: 2 });
  },
});

export const forgetful = action({
  args: {},
  handler: async (ctx) => {
    void ctx.runMutation(internal.orders.reserve, { item: "nib", count: 3 });
  },
});

export const failing = action({
  args: {},
  handler: async () => {
    console.log("before it fails");
    await pause(1);
    throw new Error("the report failed");
  },
});

export const chatter = action({
  args: { lines: v.number() },
  handler: async (_ctx, { lines }) => {
    for (let n = 0; n < lines; n++) console.log(n);
  },
});

import { internalMutation, query } from "./_generated/server";
import { v } from "convex/values";

export const list = query({ args: {}, handler: async (ctx) => await ctx.db.query("payments").order("desc").take(50) });

// Stripe delivers an event until it hears that it has arrived, so the same one may come twice.
export const received = internalMutation({
  args: { eventId: v.string(), type: v.string(), paymentId: v.string(), cents: v.number(), currency: v.string() },
  handler: async (ctx, { eventId, type, paymentId, cents, currency }) => {
    const known = await ctx.db.query("events").withIndex("by_event", (q) => q.eq("eventId", eventId)).unique();
    if (known !== null) return;
    await ctx.db.insert("events", { eventId, type });
    await ctx.db.insert("payments", { paymentId, cents, currency });
  },
});

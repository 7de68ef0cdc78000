"use node";
import { v } from "convex/values";
import Stripe from "stripe";
import { internal } from "./_generated/api";
import { action, internalAction } from "./_generated/server";

function stripe() {
  const host = process.env.STRIPE_HOST; // A server that stands for Stripe, in tests.
  return new Stripe(process.env.STRIPE_KEY!, host ? { host, port: Number(process.env.STRIPE_PORT), protocol: "http" } : {});
}

/** Ask Stripe for a payment, and write down what it says. */
export const charge = internalAction({
  args: { amount: v.number() },
  returns: v.string(),
  handler: async (ctx, { amount }) => {
    const intent = await stripe().paymentIntents.create({ amount, currency: "eur" });
    await ctx.runMutation(internal.payments.record, { event: intent.id, amount: intent.amount });
    return intent.id;
  },
});

/** What Stripe's webhook sent: believed only with Stripe's signature. */
export const receive = action({
  args: { payload: v.string(), signature: v.string() },
  returns: v.union(v.string(), v.null()),
  handler: async (ctx, { payload, signature }) => {
    const secret = process.env.STRIPE_WEBHOOK_SECRET!;
    const event = stripe().webhooks.constructEvent(payload, signature, secret);
    if (event.type !== "payment_intent.succeeded") return null;
    const { id, amount } = event.data.object;
    await ctx.runMutation(internal.payments.record, { event: id, amount });
    return id;
  },
});

/** The header that Stripe would send with this payload: its own helper for tests. */
export const signatureFor = action({
  args: { payload: v.string() },
  returns: v.string(),
  handler: async (_ctx, { payload }) =>
    stripe().webhooks.generateTestHeaderString({ payload, secret: process.env.STRIPE_WEBHOOK_SECRET! }),
});

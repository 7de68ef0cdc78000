import Stripe from "stripe";
import { internal } from "./_generated/api";
import { httpAction } from "./_generated/server";

// The same with Stripe's own package. The asynchronous form uses Web Crypto, so it needs no Node.
export const stripeWebhook = httpAction(async (ctx, request) => {
  const stripe = new Stripe(process.env.STRIPE_SECRET_KEY ?? "sk_test_unused");
  let event: Stripe.Event;
  try {
    event = await stripe.webhooks.constructEventAsync(
      await request.text(),
      request.headers.get("Stripe-Signature") ?? "",
      process.env.STRIPE_WEBHOOK_SECRET ?? "",
    );
  } catch (error) {
    return new Response(String(error), { status: 400 });
  }
  if (event.type === "payment_intent.succeeded") {
    const { id, amount_received, currency } = event.data.object;
    await ctx.runMutation(internal.payments.received, {
      eventId: event.id,
      type: event.type,
      paymentId: id,
      cents: amount_received,
      currency,
    });
  }
  return new Response(null, { status: 200 });
});

import { httpRouter } from "convex/server";
import { internal } from "./_generated/api";
import { httpAction } from "./_generated/server";
import { isFromStripe } from "./signature";
import { stripeWebhook } from "./withPackage";

const http = httpRouter();

http.route({
  path: "/stripe",
  method: "POST",
  handler: httpAction(async (ctx, request) => {
    const secret = process.env.STRIPE_WEBHOOK_SECRET;
    if (secret === undefined) throw new Error("STRIPE_WEBHOOK_SECRET is not set");
    const body = await request.text(); // The signature is of the text as it came.
    if (!(await isFromStripe(body, request.headers.get("Stripe-Signature"), secret))) {
      return new Response("The signature does not match.", { status: 400 });
    }
    const event = JSON.parse(body);
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
  }),
});

http.route({ path: "/stripe-package", method: "POST", handler: stripeWebhook });

export default http;

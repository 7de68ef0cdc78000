import { httpRouter } from "convex/server";
import { httpAction } from "./_generated/server";
import { polar, resend, twilio } from "./services";
import { stream } from "./texts";

const http = httpRouter();

http.route({ path: "/stream", method: "POST", handler: stream });
http.route({
  path: "/resend",
  method: "POST",
  handler: httpAction(async (ctx, request) => await resend.handleResendEventWebhook(ctx, request)),
});
twilio.registerRoutes(http);
polar.registerRoutes(http);

export default http;

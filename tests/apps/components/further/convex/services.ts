import { PushNotifications } from "@convex-dev/expo-push-notifications";
import { Polar } from "@convex-dev/polar";
import { R2 } from "@convex-dev/r2";
import { type EmailId, Resend } from "@convex-dev/resend";
import { Twilio } from "@convex-dev/twilio";
import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import { action, mutation, query } from "./_generated/server";

// ---- e-mail: what is sent is handed to us instead of the provider, whose webhook the test plays

export const resend: Resend = new Resend(components.resend, {
  apiKey: "re_none",
  webhookSecret: "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0",
  onEmailEvent: (internal as any).services.onEmail,
});

export const onEmail = resend.defineOnEmailEvent(async (ctx, { event }) => {
  await ctx.db.insert("notes" as never, { what: "email", value: event.type } as never);
});

export const send = mutation({
  args: { to: v.string(), resendId: v.string() },
  handler: async (ctx, { to, resendId }): Promise<string> =>
    await resend.sendEmailManually(ctx, { from: "a@example.org", to, subject: "Hello" }, async () => resendId),
});

export const queueAndCancel = mutation({
  args: {},
  handler: async (ctx): Promise<any> => {
    const id = await resend.sendEmail(ctx, { from: "a@example.org", to: "delivered@resend.dev", subject: "s", text: "t" });
    const before = (await resend.status(ctx, id))?.status;
    await resend.cancelEmail(ctx, id);
    return [before, (await resend.status(ctx, id))?.status];
  },
});

export const emailStatus = query({
  args: { id: v.string() },
  handler: async (ctx, { id }): Promise<string | undefined> => (await resend.status(ctx, id as EmailId))?.status,
});

// ---- files elsewhere: addresses are signed here

const r2 = new R2(components.r2, {
  bucket: "covers",
  endpoint: "https://r2.example.test",
  accessKeyId: "key",
  secretAccessKey: "secret",
});

export const uploadUrl = mutation({ args: {}, handler: async () => await r2.generateUploadUrl("emma") });
export const { listMetadata } = r2.clientApi();

// ---- telephones and money: there is nobody to talk to, but what they keep is kept

export const twilio = new Twilio(components.twilio, {
  TWILIO_ACCOUNT_SID: "AC0",
  TWILIO_AUTH_TOKEN: "token",
  defaultFrom: "+15550100",
});
export const texts = query({ args: {}, handler: async (ctx): Promise<unknown[]> => await twilio.list(ctx) });
export const text = action({
  args: {},
  handler: async (ctx): Promise<string> =>
    await twilio.sendMessage(ctx, { to: "+15550101", body: "hello" }).then(
      () => "sent",
      (error: Error) => error.message,
    ),
});

export const polar: Polar = new Polar(components.polar, {
  organizationToken: "none",
  webhookSecret: "secret",
  server: "sandbox",
  getUserInfo: async () => ({ userId: "ada", email: "ada@example.org" }),
});
export const products = query({ args: {}, handler: async (ctx): Promise<unknown[]> => await polar.listProducts(ctx) });

const push = new PushNotifications<string>(components.pushNotifications);

export const notify = mutation({
  args: { userId: v.string() },
  handler: async (ctx, { userId }): Promise<any> => {
    await push.recordToken(ctx, { userId, pushToken: "ExponentPushToken[none]" });
    const id = await push.sendPushNotification(ctx, { userId, notification: { title: "Hello" } });
    return { id, status: await push.getStatusForUser(ctx, { userId }), kept: await push.getNotification(ctx, { id: id! }) };
  },
});

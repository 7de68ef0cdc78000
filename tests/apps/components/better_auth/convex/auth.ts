import { type AuthFunctions, createClient, type GenericCtx } from "@convex-dev/better-auth";
import { convex } from "@convex-dev/better-auth/plugins";
import { betterAuth } from "better-auth/minimal";
import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import type { DataModel } from "./_generated/dataModel";
import { mutation, query } from "./_generated/server";
import authConfig from "./auth.config";

const authFunctions: AuthFunctions = internal.auth;

export const authComponent = createClient<DataModel>(components.betterAuth, {
  authFunctions,
  triggers: {
    user: {
      onCreate: async (ctx, user) => {
        await ctx.db.insert("profiles", { authId: user._id, name: user.name });
      },
    },
  },
});

export const { onCreate, onUpdate, onDelete } = authComponent.triggersApi();

export const createAuth = (ctx: GenericCtx<DataModel>) =>
  betterAuth({
    baseURL: process.env.CONVEX_SITE_URL,
    secret: process.env.BETTER_AUTH_SECRET ?? "while the code is only looked at, nothing is signed",
    trustedOrigins: [process.env.SITE_URL ?? "http://localhost:5173"],
    database: authComponent.adapter(ctx),
    emailAndPassword: { enabled: true, requireEmailVerification: false },
    plugins: [convex({ authConfig })],
    rateLimit: { enabled: false },
  });

export const me = query({
  args: {},
  handler: async (ctx) => {
    const user = await authComponent.safeGetAuthUser(ctx);
    if (!user) return null;
    const profile = await ctx.db.query("profiles").withIndex("by_auth", (q) => q.eq("authId", user._id)).unique();
    return { email: user.email, name: user.name, profile: profile?.name ?? null };
  },
});

export const write = mutation({
  args: { text: v.string() },
  handler: async (ctx, { text }) => {
    const user = await authComponent.getAuthUser(ctx);
    await ctx.db.insert("notes", { owner: user._id, text });
  },
});

export const mine = query({
  args: {},
  handler: async (ctx) => {
    const user = await authComponent.getAuthUser(ctx);
    const notes = await ctx.db.query("notes").withIndex("by_owner", (q) => q.eq("owner", user._id)).collect();
    return notes.map(({ text }) => text);
  },
});

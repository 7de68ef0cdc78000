"use node";

import { createHash } from "node:crypto";
import { Buffer } from "node:buffer";
import { v } from "convex/values";
import { internal } from "./_generated/api";
import { action, internalAction } from "./_generated/server";
import { failure, maybeFail } from "./failing";

export const digest = internalAction({
  args: { chain: v.string(), file: v.id("_storage"), text: v.string(), fail: failure },
  returns: v.object({ found: v.number(), digest: v.string() }),
  handler: async (ctx, { chain, file, text, fail }): Promise<{ found: number; digest: string }> => {
    maybeFail("node", fail);
    const blob = await ctx.storage.get(file);
    const bytes = Buffer.from(await blob!.arrayBuffer());
    if (bytes.toString("utf8") !== text) throw new Error("the file is another one");
    const digest = createHash("sha256").update(bytes).digest("hex");
    const found: number = await ctx.runMutation(internal.chain.search, { chain, text, file, digest, fail });
    return { found, digest };
  },
});

export const strict = action({
  args: { kind: v.literal("node"), id: v.id("steps"), many: v.optional(v.array(v.bytes())) },
  returns: v.number(),
  handler: async (_, { many }) => (many ?? []).reduce((sum, bytes) => sum + bytes.byteLength, 0),
});
export const lying = action({ args: {}, returns: v.number(), handler: async () => "a text" as unknown as number });

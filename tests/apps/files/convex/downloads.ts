// Actions fetch from elsewhere and keep what they got.

import { v } from "convex/values";
import { api } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { action } from "./_generated/server";

export const addFromUrl = action({
  args: { url: v.string(), caption: v.string() },
  handler: async (ctx, { url, caption }): Promise<Id<"_storage">> => {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`${url} answered ${response.status}`);
    const file = await ctx.storage.store(await response.blob());
    await ctx.runMutation(api.photos.add, { file, caption, author: "the web" });
    return file;
  },
});

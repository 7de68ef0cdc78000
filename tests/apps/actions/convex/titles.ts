import { ConvexError, v } from "convex/values";
import { internal } from "./_generated/api";
import { action, internalAction } from "./_generated/server";

async function titleOf(url: string): Promise<string> {
  const response = await fetch(url, { signal: AbortSignal.timeout(5_000) });
  if (!response.ok) throw new ConvexError({ kind: "NotAPage", status: response.status });
  const found = /<title>([^<]*)<\/title>/i.exec(await response.text());
  if (found === null) throw new ConvexError({ kind: "NoTitle", status: response.status });
  return found[1].trim();
}

export const preview = action({
  args: { url: v.string() },
  returns: v.string(),
  handler: async (_ctx, { url }) => await titleOf(url),
});

export const fill = internalAction({
  args: { link: v.id("links") },
  handler: async (ctx, { link }) => {
    const found = await ctx.runQuery(internal.links.get, { link });
    if (found === null) return;
    const title = await titleOf(found.url).catch(() => null);
    await ctx.runMutation(internal.links.setTitle, { link, title });
  },
});

export const previewAll = action({
  args: { urls: v.array(v.string()) },
  handler: async (_ctx, { urls }) => {
    const titles = await Promise.allSettled(urls.map(titleOf));
    return titles.map((each) => (each.status === "fulfilled" ? each.value : null));
  },
});

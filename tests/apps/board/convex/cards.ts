import { ConvexError, v } from "convex/values";
import { paginationOptsValidator } from "convex/server";
import type { Id } from "./_generated/dataModel";
import { mutation, query, type MutationCtx, type QueryCtx } from "./_generated/server";

/** Who is calling. Everything that belongs to somebody asks here first. */
async function caller(ctx: QueryCtx): Promise<string> {
  const identity = await ctx.auth.getUserIdentity();
  if (identity === null) throw new ConvexError({ code: "SIGN_IN", message: "Sign in first" });
  return identity.tokenIdentifier;
}

/** The card, if the caller may change it. A card that is not there and one of others look alike from outside. */
async function editable(ctx: MutationCtx, id: Id<"cards">) {
  const user = await caller(ctx);
  const card = await ctx.db.get(id);
  if (card === null || (card.owner !== user && !card.editors.includes(user))) {
    throw new ConvexError({ code: "NOT_YOURS", message: "There is no such card of yours" });
  }
  return { card, user };
}

export const create = mutation({
  args: { title: v.string() },
  handler: async (ctx, { title }) => await ctx.db.insert("cards", { owner: await caller(ctx), title, editors: [] }),
});

export const rename = mutation({
  args: { id: v.id("cards"), title: v.string() },
  handler: async (ctx, { id, title }) => {
    await editable(ctx, id);
    await ctx.db.patch(id, { title });
  },
});

/** Only the owner decides who may edit. */
export const share = mutation({
  args: { id: v.id("cards"), with: v.string() },
  handler: async (ctx, { id, with: user }) => {
    const { card, user: me } = await editable(ctx, id);
    if (card.owner !== me) throw new ConvexError({ code: "OWNER_ONLY", message: "Only the owner can share a card" });
    if (!card.editors.includes(user)) await ctx.db.patch(id, { editors: [...card.editors, user] });
  },
});

export const mine = query({
  args: {},
  handler: async (ctx) => {
    const user = await caller(ctx);
    return await ctx.db.query("cards").withIndex("by_owner", (q) => q.eq("owner", user)).collect();
  },
});

/** One page of everybody's cards, newest first. */
export const feed = query({
  args: { paginationOpts: paginationOptsValidator },
  handler: async (ctx, { paginationOpts }) => {
    const cards = await ctx.db.query("cards").order("desc").paginate(paginationOpts);
    return { ...cards, page: cards.page.map(({ _id, title }) => ({ _id, title })) };
  },
});

export const createMany = mutation({
  args: { count: v.number() },
  handler: async (ctx, { count }) => {
    for (let n = 1; n <= count; n++) await ctx.db.insert("cards", { owner: "nobody", title: `card ${n}`, editors: [] });
  },
});

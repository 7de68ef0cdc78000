import { v } from "convex/values";
import { Id } from "./_generated/dataModel";
import { mutation, query, MutationCtx, QueryCtx } from "./_generated/server";

async function mayUse(ctx: QueryCtx | MutationCtx, list: Id<"lists">, user: Id<"users">) {
  const found = await ctx.db.get(list);
  if (!found || (found.owner !== user && !found.sharedWith.includes(user))) throw new Error("No such list");
  return found;
}

export const create = mutation({
  args: { title: v.string(), owner: v.id("users") },
  handler: async (ctx, { title, owner }) => await ctx.db.insert("lists", { title, owner, sharedWith: [] }),
});

export const share = mutation({
  args: { list: v.id("lists"), from: v.id("users"), to: v.id("users") },
  handler: async (ctx, { list, from, to }) => {
    const found = await mayUse(ctx, list, from);
    if (!found.sharedWith.includes(to)) await ctx.db.patch(list, { sharedWith: [...found.sharedWith, to] });
  },
});

/** Every list a person may use, with how much is left to do in each. */
export const mine = query({
  args: { user: v.id("users") },
  handler: async (ctx, { user }) => {
    const own = await ctx.db.query("lists").withIndex("by_owner", (q) => q.eq("owner", user)).collect();
    const all = await ctx.db.query("lists").collect();
    const shared = all.filter((list) => list.sharedWith.includes(user));
    return await Promise.all(
      [...own, ...shared].map(async (list) => ({
        id: list._id,
        title: list.title,
        shared: list.owner !== user,
        open: (
          await ctx.db.query("todos").withIndex("by_list_and_done", (q) => q.eq("list", list._id).eq("done", false)).collect()
        ).length,
      })),
    );
  },
});

export const todos = query({
  args: { list: v.id("lists"), user: v.id("users"), only: v.optional(v.union(v.literal("open"), v.literal("done"))) },
  handler: async (ctx, { list, user, only }) => {
    await mayUse(ctx, list, user);
    const rows =
      only === undefined
        ? await ctx.db.query("todos").withIndex("by_list", (q) => q.eq("list", list)).order("desc").collect()
        : await ctx.db
            .query("todos")
            .withIndex("by_list_and_done", (q) => q.eq("list", list).eq("done", only === "done"))
            .order("desc")
            .collect();
    return await Promise.all(
      rows.map(async (row) => ({ id: row._id, text: row.text, done: row.done, by: (await ctx.db.get(row.by))?.name ?? "someone" })),
    );
  },
});

export const add = mutation({
  args: { list: v.id("lists"), user: v.id("users"), text: v.string(), due: v.optional(v.number()) },
  returns: v.id("todos"),
  handler: async (ctx, { list, user, text, due }) => {
    await mayUse(ctx, list, user);
    return await ctx.db.insert("todos", { list, text, due, done: false, by: user });
  },
});

export const toggle = mutation({
  args: { todo: v.id("todos") },
  handler: async (ctx, { todo }) => {
    const found = await ctx.db.get(todo);
    if (!found) throw new Error("That to-do is gone");
    await ctx.db.patch(todo, { done: !found.done });
  },
});

export const clearDone = mutation({
  args: { list: v.id("lists") },
  handler: async (ctx, { list }) => {
    const done = ctx.db.query("todos").withIndex("by_list_and_done", (q) => q.eq("list", list).eq("done", true));
    let cleared = 0;
    for await (const todo of done) {
      await ctx.db.delete(todo._id);
      cleared++;
    }
    return cleared;
  },
});

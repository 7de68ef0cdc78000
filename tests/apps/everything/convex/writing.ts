import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const get = query({ args: { id: v.id("notes") }, handler: async (ctx, { id }) => await ctx.db.get(id) });

export const insert = mutation({
  args: { text: v.string(), group: v.optional(v.string()), size: v.optional(v.number()) },
  returns: v.id("notes"),
  handler: async (ctx, args) => await ctx.db.insert("notes", args),
});

export const patches = mutation({
  args: {},
  handler: async (ctx) => {
    const id = await ctx.db.insert("notes", { text: "one", group: "patched", size: 1, nested: { a: 1, b: 2 } });
    const seen = [];
    await ctx.db.patch(id, { size: 2 });
    seen.push(await ctx.db.get(id));
    await ctx.db.patch(id, { size: undefined, group: undefined });
    seen.push(await ctx.db.get(id));
    await ctx.db.patch(id, { nested: { b: 3 } });
    seen.push(await ctx.db.get(id));
    await ctx.db.patch(id, { nested: { a: undefined, b: 4 } });
    seen.push(await ctx.db.get(id));
    await ctx.db.patch(id, {});
    seen.push(await ctx.db.get(id));
    const foundByIndex = await ctx.db.query("notes").withIndex("by_group", (q) => q.eq("group", "patched")).collect();
    await ctx.db.delete(id);
    return { seen: seen.map((doc) => Object.fromEntries(Object.entries(doc!).filter(([key]) => !key.startsWith("_")))), foundByIndex };
  },
});

export const replaces = mutation({
  args: {},
  handler: async (ctx) => {
    const id = await ctx.db.insert("notes", { text: "one", group: "g", size: 1 });
    const before = (await ctx.db.get(id))!;
    await ctx.db.replace(id, { text: "two" });
    const after = (await ctx.db.get(id))!;
    await ctx.db.replace(id, { ...after, text: "three" });
    const again = (await ctx.db.get(id))!;
    await ctx.db.delete(id);
    return {
      keys: Object.keys(after).sort(),
      sameId: before._id === after._id && before._creationTime === after._creationTime,
      text: again.text,
      gone: await ctx.db.get(id),
    };
  },
});

export const twoArgumentForms = mutation({
  args: {},
  handler: async (ctx) => {
    const id = await ctx.db.insert("notes", { text: "a" });
    await ctx.db.patch("notes", id, { size: 1 });
    await ctx.db.replace("notes", id, { text: "b", size: 2 });
    const seen = await ctx.db.get("notes", id);
    await ctx.db.delete("notes", id);
    return seen!.text + seen!.size;
  },
});

/** Every way to write wrongly, and what it says. */
export const mistakes = mutation({
  args: {},
  handler: async (ctx) => {
    const db = ctx.db as any;
    const gone = await ctx.db.insert("notes", { text: "gone" });
    await ctx.db.delete(gone);
    const there = await ctx.db.insert("notes", { text: "there" });
    const said: Record<string, string> = {};
    const attempt = async (name: string, body: () => Promise<unknown>) => {
      try {
        await body();
        said[name] = "no error";
      } catch (error: any) {
        said[name] = String(error.message);
      }
    };
    await attempt("patchGone", () => db.patch(gone, { text: "x" }));
    await attempt("replaceGone", () => db.replace(gone, { text: "x" }));
    await attempt("deleteGone", () => db.delete(gone));
    await attempt("insertWithId", () => db.insert("notes", { _id: there, text: "x" }));
    await attempt("insertWithCreationTime", () => db.insert("notes", { _creationTime: 1, text: "x" }));
    await attempt("insertUnderscore", () => db.insert("loose", { _private: 1 }));
    await attempt("replaceOtherId", () => db.replace(there, { _id: gone, text: "x" }));
    await attempt("patchCreationTime", () => db.patch(there, { _creationTime: 5 }));
    await attempt("schemaType", () => db.insert("notes", { text: 5 }));
    await attempt("schemaMissing", () => db.insert("notes", {}));
    await attempt("schemaExtra", () => db.insert("notes", { text: "x", more: 1 }));
    await attempt("schemaUnion", () => db.insert("shapes", { kind: "circle", width: 1 }));
    await attempt("systemTable", () => db.insert("_storage", { x: 1 }));
    await attempt("notAnObject", () => db.insert("notes", "text"));
    await attempt("badTableName", () => db.insert("no-such table", {}));
    await attempt("patchRemovesRequired", () => db.patch(there, { text: undefined }));
    said.untouched = (await ctx.db.get(there))!.text;
    await ctx.db.delete(there);
    return said;
  },
});

/** Nobody awaits these; they happen all the same, and in order. */
export const unawaited = mutation({
  args: { group: v.string() },
  handler: async (ctx, { group }) => {
    for (let n = 0; n < 5; n++) void ctx.db.insert("notes", { text: `u${n}`, group });
    return "returned";
  },
});

export const unawaitedThenThrows = mutation({
  args: { group: v.string() },
  handler: async (ctx, { group }) => {
    void ctx.db.insert("notes", { text: "never", group });
    throw new Error("after an unawaited write");
  },
});

export const writesThenThrows = mutation({
  args: { group: v.string() },
  handler: async (ctx, { group }) => {
    await ctx.db.insert("notes", { text: "never", group });
    throw new Error("after a write");
  },
});

/** Own writes are visible at once, through ids, indexes and scans. */
export const readsOwnWrites = mutation({
  args: {},
  handler: async (ctx) => {
    const group = "own";
    const inGroup = async () =>
      (await ctx.db.query("notes").withIndex("by_group", (q) => q.eq("group", group)).collect()).map((note) => note.text);
    const seen = [await inGroup()];
    const a = await ctx.db.insert("notes", { text: "a", group });
    const b = await ctx.db.insert("notes", { text: "b", group });
    seen.push(await inGroup());
    await ctx.db.patch(a, { group: "elsewhere" });
    seen.push(await inGroup());
    await ctx.db.patch(a, { group });
    await ctx.db.delete(b);
    seen.push(await inGroup());
    await ctx.db.delete(a);
    seen.push(await inGroup());
    return seen;
  },
});

export const creationOrder = mutation({
  args: {},
  handler: async (ctx) => {
    const ids = [];
    for (let n = 0; n < 20; n++) ids.push(await ctx.db.insert("notes", { text: `${n}`, group: "order" }));
    const rows = await Promise.all(ids.map((id) => ctx.db.get(id)));
    const times = rows.map((row) => row!._creationTime);
    for (const id of ids) await ctx.db.delete(id);
    return { increasing: times.every((time, n) => n === 0 || time > times[n - 1]), now: Date.now(), first: times[0] };
  },
});

export const count = query({
  args: { group: v.string() },
  handler: async (ctx, { group }) =>
    (await ctx.db.query("notes").withIndex("by_group", (q) => q.eq("group", group)).collect()).map((note) => note.text),
});

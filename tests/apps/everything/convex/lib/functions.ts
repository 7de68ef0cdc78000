import { customCtx, customMutation, customQuery } from "convex-helpers/server/customFunctions";
import { wrapDatabaseReader } from "convex-helpers/server/rowLevelSecurity";
import { Triggers } from "convex-helpers/server/triggers";
import { ConvexError, v } from "convex/values";
import type { DataModel } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import { mutation, query } from "../_generated/server";

/** Queries that take an access key, look a name up, and see only books after 1900. */
export const keyedQuery = customQuery(query, {
  args: { key: v.string() },
  input: async (ctx, { key }) => {
    if (!key.startsWith("key-")) throw new ConvexError({ code: "BAD_KEY", key });
    const db = wrapDatabaseReader<QueryCtx, DataModel>(ctx, ctx.db, { books: { read: async (_ctx, book) => book.year > 1900 } });
    return { ctx: { db, reader: key.slice(4) }, args: {} };
  },
});

const triggers = new Triggers<DataModel>();

/** One tally per author, kept by a trigger. */
triggers.register("books", async (ctx, change) => {
  const tally = await ctx.db.query("tallies").withIndex("by_name", (q) => q.eq("name", "books")).unique();
  const step = change.operation === "insert" ? 1 : change.operation === "delete" ? -1 : 0;
  if (tally === null) await ctx.db.insert("tallies", { name: "books", total: step });
  else await ctx.db.patch(tally._id, { total: tally.total + step });
});

export const tallyingMutation = customMutation(mutation, customCtx(triggers.wrapDB));

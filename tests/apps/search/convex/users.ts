import { v } from "convex/values";
import { mutation } from "./_generated/server";

export const create = mutation({ args: { name: v.string() }, handler: (ctx, user) => ctx.db.insert("users", user) });

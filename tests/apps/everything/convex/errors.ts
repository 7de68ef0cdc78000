import { ConvexError, v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const throwsData = query({ args: { data: v.any() }, handler: async (_ctx, { data }) => { throw new ConvexError(data); } });
export const mutationThrowsData = mutation({ args: { data: v.any() }, handler: async (_ctx, { data }) => { throw new ConvexError(data); } });

class OutOfPaper extends ConvexError<{ code: string; sheets: number }> {
  name = "OutOfPaper";
  constructor(sheets: number) {
    super({ code: "OUT_OF_PAPER", sheets });
  }
}

export const throwsSubclass = query({ args: {}, handler: async () => { throw new OutOfPaper(0); } });

export const throwsError = query({ args: { message: v.string() }, handler: async (_ctx, { message }) => helper(message) });

function helper(message: string): never {
  throw new RangeError(message);
}

export const throwsString = query({ args: {}, handler: async () => { throw "just text"; } });
export const throwsNull = query({ args: {}, handler: async () => { throw null; } });
export const throwsFromPromise = query({ args: {}, handler: async () => { await Promise.reject(new Error("from a promise")); } });

export const unhandledRejection = mutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert("notes", { text: "never", group: "unhandled" });
    void Promise.reject(new Error("nobody looks at this"));
    return "returned";
  },
});

export const neverEnds = query({ args: {}, handler: async () => await new Promise(() => {}) });

export const logs = query({
  args: {},
  handler: async () => {
    console.debug("debug");
    console.info("info", 1);
    console.log("log", { a: 1 }, [1, "two"]);
    console.warn("warn", null, undefined, true);
    console.error("error", 10n);
    return "logged";
  },
});

export const logsThenThrows = mutation({
  args: {},
  handler: async () => {
    console.log("before");
    throw new Error("after the log");
  },
});

export const manyLogs = query({
  args: {},
  handler: async () => {
    for (let n = 0; n < 400; n++) console.log(`line ${n}`);
  },
});

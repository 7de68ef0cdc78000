// Features that come later, each asked for as an app would: what the function gets is said, caught or not.

import {
  log,
  mutationGeneric as mutation,
  queryGeneric as query,
} from "convex/server";
import { v } from "convex/values";

export const nothing = mutation({ args: {}, handler: async () => null });

const inMutations: Record<string, (ctx: any) => Promise<unknown>> = {
  audit: () => log.audit({ a: 1 }),
};
const inQueries: Record<string, (ctx: any) => Promise<unknown>> = {
  audit: () => log.audit({ a: 1 }),
};

async function asked(ctx: any, feature: (ctx: any) => Promise<unknown>, caught: boolean) {
  if (!caught) return await feature(ctx);
  try {
    return { value: await feature(ctx) };
  } catch (error: any) {
    return { caught: error.message, data: error.data };
  }
}

const args = { feature: v.string(), caught: v.boolean() };
export const inMutation = mutation({ args, handler: (ctx, a) => asked(ctx, inMutations[a.feature], a.caught) });
export const inQuery = query({ args, handler: (ctx, a) => asked(ctx, inQueries[a.feature], a.caught) });
export const features = query({
  args: {},
  handler: async () => ({ mutations: Object.keys(inMutations), queries: Object.keys(inQueries) }),
});

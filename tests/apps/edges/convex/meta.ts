import {
  internalMutationGeneric as internalMutation,
  makeFunctionReference,
  mutationGeneric as mutation,
  queryGeneric as query,
} from "convex/server";

export const request = mutation({ args: {}, handler: async (ctx) => await ctx.meta.getRequestMetadata() });
export const below = internalMutation({
  args: {},
  handler: async (ctx) => ({ request: await ctx.meta.getRequestMetadata(), fn: await ctx.meta.getFunctionMetadata() }),
});
const belowReference = makeFunctionReference<"mutation">("meta:below");
export const nested = mutation({ args: {}, handler: async (ctx): Promise<any> => await ctx.runMutation(belowReference, {}) });
export const inQuery = query({ args: {}, handler: async (ctx) => await (ctx.meta as any).getRequestMetadata() });
export const syscallInQuery = query({
  args: {},
  handler: async () => {
    try {
      return await (globalThis as any).Convex.asyncSyscall("1.0/getRequestMetadata", "{}");
    } catch (error: any) {
      return `caught: ${error.message}`;
    }
  },
});
export const whereQuery = query({
  args: {},
  handler: async (ctx) => ({ fn: await ctx.meta.getFunctionMetadata(), deployment: await ctx.meta.getDeploymentMetadata() }),
});
export const whereMutation = mutation({
  args: {},
  handler: async (ctx) => ({ fn: await ctx.meta.getFunctionMetadata(), deployment: await ctx.meta.getDeploymentMetadata() }),
});
export default query({ args: {}, handler: async (ctx) => await ctx.meta.getFunctionMetadata() });

import { start as startWorkflow, vWorkflowId, WorkflowManager } from "@convex-dev/workflow";
import { vResultValidator } from "@convex-dev/workpool";
import { v } from "convex/values";
import { components, internal } from "./_generated/api";
import { internalAction, internalMutation, internalQuery, mutation, query } from "./_generated/server";

export const workflow = new WorkflowManager(components.workflow, {
  workpoolOptions: { maxParallelism: 4, defaultRetryBehavior: { maxAttempts: 3, initialBackoffMs: 50, base: 2 } },
});

export const welcome = workflow
  .define({ args: { name: v.string(), waits: v.boolean() }, returns: v.string() })
  .handler(async (step, { name, waits }): Promise<string> => {
    const text: string = await step.runQuery(internal.flows.compose, { name });
    const [one, two]: [number, number] = await Promise.all([
      step.runAction(internal.flows.measure, { text }),
      step.runAction(internal.flows.flaky, { what: `flow of ${name}` }, { retry: true }),
    ]);
    await step.runMutation(internal.notes.done, { what: `letter to ${name}`, result: text });
    if (waits) {
      const answer: string = await step.awaitEvent({ name: "answered", validator: v.string() });
      return `${text} ${answer}`;
    }
    return `${text} (${one}, ${two})`;
  });

export const compose = internalQuery({ args: { name: v.string() }, handler: async (_, { name }) => `Dear ${name}` });
export const measure = internalAction({ args: { text: v.string() }, handler: async (_, { text }) => text.length });

export const flaky = internalAction({
  args: { what: v.string() },
  handler: async (ctx, { what }): Promise<number> => {
    const before: number = await ctx.runMutation(internal.notes.tryOnce, { what });
    if (before === 0) throw new Error("not the first time");
    return before;
  },
});

export const begin = mutation({
  args: { name: v.string(), waits: v.optional(v.boolean()) },
  handler: async (ctx, { name, waits }): Promise<string> =>
    await startWorkflow(
      ctx,
      internal.flows.welcome,
      { name, waits: waits ?? false },
      { onComplete: internal.flows.ended, context: { name } },
    ),
});

export const ended = internalMutation({
  args: { workflowId: vWorkflowId, result: vResultValidator, context: v.object({ name: v.string() }) },
  handler: async (ctx, { result, context }) => {
    await ctx.db.insert("done", { what: `end of ${context.name}`, result });
  },
});

export const answer = mutation({
  args: { id: vWorkflowId, text: v.string() },
  handler: async (ctx, { id, text }) => {
    await workflow.sendEvent(ctx, { workflowId: id, name: "answered", value: text });
  },
});

export const status = query({ args: { id: vWorkflowId }, handler: async (ctx, { id }) => await workflow.status(ctx, id) });
export const cancel = mutation({ args: { id: vWorkflowId }, handler: async (ctx, { id }) => await workflow.cancel(ctx, id) });

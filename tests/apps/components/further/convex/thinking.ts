import { Agent, createThread, createTool, listMessages, mockModel, stepCountIs } from "@convex-dev/agent";
import { RAG } from "@convex-dev/rag";
import { paginationOptsValidator } from "convex/server";
import { v } from "convex/values";
import { z } from "zod";
import { components, internal } from "./_generated/api";
import { action, query } from "./_generated/server";

/** Spelled out, the type of the options is more than tsc can do with these versions of `ai` and of the package. */
type Options = any;

// ---- an agent with a tool, its model played by a mock of the package

const agent = new Agent(components.agent, {
  name: "librarian",
  instructions: "You find books.",
  languageModel: mockModel({
    contentSteps: [
      [{ type: "tool-call", toolCallId: "call1", toolName: "find", input: JSON.stringify({ title: "Emma" }) }],
      [{ type: "text", text: "Emma is on the third shelf." }],
    ],
  }),
  tools: {
    find: createTool({
      description: "Find a book",
      inputSchema: z.object({ title: z.string() }),
      execute: async (ctx, { title }): Promise<string> => {
        await ctx.runMutation(internal.notes.note, { what: "tool", value: title });
        return `${title}: shelf 3`;
      },
    }),
  },
  stopWhen: stepCountIs(3),
} as Options);

export const ask = action({
  args: { prompt: v.string() },
  handler: async (ctx, { prompt }): Promise<{ threadId: string; text: string }> => {
    const threadId = await createThread(ctx, components.agent, { userId: "ada", title: "books" });
    return { threadId, text: (await agent.generateText(ctx, { threadId }, { prompt })).text };
  },
});

const talker = new Agent(components.agent, {
  name: "talker",
  languageModel: mockModel({ content: [{ type: "text", text: "Once upon a time." }] }),
} as Options);

/** What the model says is in the database while it says it. */
export const tell = action({
  args: { prompt: v.string() },
  handler: async (ctx, { prompt }): Promise<{ threadId: string; text: string }> => {
    const threadId = await createThread(ctx, components.agent, { userId: "ada" });
    const result = await talker.streamText(ctx, { threadId }, { prompt }, { saveStreamDeltas: true });
    await result.consumeStream();
    return { threadId, text: await result.text };
  },
});

export const messages = query({
  args: { threadId: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, args): Promise<any> => {
    const found = await listMessages(ctx, components.agent, args);
    return { ...found, page: found.page.map(({ message, text }) => ({ role: message?.role, text })) };
  },
});

// ---- what is like what: vectors and words inside a component

/** Counts vowels, which is what the texts of the test differ in. */
const embed = (text: string) => {
  const counts = ["a", "e", "i", "o", "u"].map((vowel) => text.toLowerCase().split(vowel).length - 1);
  return [...counts, ...Array<number>(128 - counts.length).fill(0)];
};

const rag = new RAG(components.rag, {
  embeddingDimension: 128,
  textEmbeddingModel: {
    specificationVersion: "v4",
    provider: "test",
    modelId: "vowels",
    maxEmbeddingsPerCall: 10,
    supportsParallelCalls: false,
    doEmbed: async ({ values }: { values: string[] }) => ({ embeddings: values.map(embed), warnings: [] }),
  } as any,
});

export const learn = action({
  args: { key: v.string(), text: v.string() },
  handler: async (ctx, { key, text }): Promise<string> =>
    (await rag.add(ctx, { namespace: "books", key, chunks: [text] })).entryId,
});

export const recall = action({
  args: { words: v.string(), by: v.union(v.literal("vector"), v.literal("text"), v.literal("hybrid")) },
  handler: async (ctx, { words, by }): Promise<string[]> => {
    const { results } = await rag.search(ctx, { namespace: "books", query: words, limit: 1, searchType: by });
    return results.map(({ content }) => content[0].text);
  },
});

import { PersistentTextStreaming, type StreamId, StreamIdValidator } from "@convex-dev/persistent-text-streaming";
import { ProsemirrorSync } from "@convex-dev/prosemirror-sync";
import { components } from "./_generated/api";
import { httpAction, mutation, query } from "./_generated/server";

// ---- a text that one reader streams and all others follow

const streaming = new PersistentTextStreaming(components.persistentTextStreaming);

export const create = mutation({ args: {}, handler: async (ctx) => await streaming.createStream(ctx) });

export const body = query({
  args: { id: StreamIdValidator },
  handler: async (ctx, { id }) => await streaming.getStreamBody(ctx, id as StreamId),
});

export const stream = httpAction(async (ctx, request) => {
  const { id } = (await request.json()) as { id: string };
  return await streaming.stream(ctx, request, id as StreamId, async (_ctx, _request, _id, append) => {
    for (const part of ["Once upon a time. ", "There was a stream. ", "The end."]) await append(part);
  });
});

// ---- a document that several write

const prosemirror = new ProsemirrorSync(components.prosemirrorSync);

export const { getSnapshot, submitSnapshot, latestVersion, getSteps, submitSteps } = prosemirror.syncApi();

// Nothing here runs: it type-checks the generated files against what the functions declare.
import { ConvexHttpClient } from "convex/browser";
import type { FunctionReference, FunctionReturnType } from "convex/server";
import { api, internal } from "../convex/_generated/api";
import type { DataModel, Doc, Id, TableNames } from "../convex/_generated/dataModel";
import type { DatabaseReader, MutationCtx, QueryCtx } from "../convex/_generated/server";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const yes = <T extends true>(): void => {
  void (0 as unknown as T);
};

yes<Same<TableNames, "rooms" | "messages">>();
yes<Same<Doc<"rooms">["name"], string>>();
yes<Same<Doc<"messages">["kind"], "text" | "image">>();
yes<Same<Doc<"messages">["likes"], bigint | undefined>>();
yes<Same<FunctionReturnType<typeof api.messages.send>, Id<"messages">>>();
yes<Same<FunctionReturnType<typeof internal.messages.count>, number>>();
yes<Same<FunctionReturnType<typeof api.messages.list>, Doc<"messages">[]>>();
yes<Same<FunctionReturnType<typeof api.admin.rooms.default>, string[]>>();
yes<typeof internal.messages.like extends FunctionReference<"mutation", "internal"> ? true : false>();
yes<keyof DataModel extends TableNames ? true : false>();

// @ts-expect-error internal functions are absent from the public tree
void api.messages.count;
// @ts-expect-error and public ones from the internal tree
void internal.messages.list;

export async function use(client: ConvexHttpClient, room: Id<"rooms">, ctx: QueryCtx & { m: MutationCtx }, db: DatabaseReader) {
  const id: Id<"messages"> = await client.mutation(api.messages.send, { room, author: "a", body: "b" });
  // @ts-expect-error an id of another table
  await client.mutation(api.messages.send, { room: id, author: "a", body: "b" });
  // @ts-expect-error a missing argument
  await client.mutation(api.messages.send, { room });
  // @ts-expect-error no such table
  db.query("nothing");
  const found = await ctx.db.get(id);
  return found?.body.length;
}

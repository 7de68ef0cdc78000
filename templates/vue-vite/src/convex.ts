import { ConvexClient } from "convex/browser";
import type { FunctionArgs, FunctionReference, FunctionReturnType } from "convex/server";
import { ref, toValue, watchEffect, type MaybeRefOrGetter, type Ref } from "vue";

/** The connection that the whole page shares. */
export const convex = new ConvexClient(import.meta.env.VITE_CONVEX_URL as string);

/**
 * A query's result, as a ref that changes when the data does; `undefined` until the first result is there.
 *
 * Arguments may be a ref or a getter: the query follows them. `error` holds what the query threw.
 */
export function useQuery<Query extends FunctionReference<"query">>(
  query: Query,
  args: MaybeRefOrGetter<FunctionArgs<Query>>,
): { data: Ref<FunctionReturnType<Query> | undefined>; error: Ref<Error | undefined> } {
  const data = ref<FunctionReturnType<Query>>();
  const error = ref<Error>();
  watchEffect((onCleanup) => {
    const unsubscribe = convex.onUpdate(
      query,
      toValue(args),
      (result) => {
        data.value = result;
        error.value = undefined;
      },
      (reason) => (error.value = reason),
    );
    onCleanup(unsubscribe);
  });
  return { data, error };
}

import { actionGeneric as action } from "convex/server";

const tried: Record<string, string> = {};
const attempt = (name: string, what: () => unknown) => {
  try {
    what();
    tried[name] = "worked";
  } catch (error: any) {
    tried[name] = error.message.split(".")[0];
  }
};
attempt("timer", () => setTimeout(() => {}, 1));
attempt("random", () => crypto.randomUUID());
attempt("syscall", () => (globalThis as any).Convex.asyncSyscall("1.0/get", "{}"));
const fetched = fetch("http://127.0.0.1:9/").then(() => "worked", (error) => error.message.split(".")[0]);
const then = Date.now();

export const look = action({ args: {}, handler: async () => ({ ...tried, fetch: await fetched, frozen: then === 1_600_000_000_000 }) });

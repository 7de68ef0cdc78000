import { query } from "./_generated/server";

export const early = (globalThis as any).Convex.asyncSyscall("1.0/get", "{}");
export const one = query(async () => 1);

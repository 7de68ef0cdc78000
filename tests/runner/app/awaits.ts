import { query } from "./_generated/server";

const value = await Promise.resolve(1);
export const one = query(async () => value);

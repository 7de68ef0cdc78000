import { query } from "./_generated/server";

console.log("about to fail", { because: "a test" });
const broken: any = undefined;
export const value = broken.property;
export const one = query(async () => value);

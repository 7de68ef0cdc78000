import { ConvexError } from "convex/values";

// A helper module: it exports no function of the deployment, and two modules share it.
export function tidy(text: string): string {
  const trimmed = text.trim();
  if (trimmed === "") {
    throw new ConvexError({ reason: "empty" });
  }
  return trimmed;
}

// A package that patches what all functions share, when it is imported.

import { query } from "./_generated/server";
import "reflect-metadata";

export const metadata = query({
  args: {},
  handler: async () => {
    class Tagged {}
    const before = Reflect.getMetadata("tag", Tagged) ?? "nothing";
    Reflect.defineMetadata("tag", "kept", Tagged);
    return [before as string, Reflect.getMetadata("tag", Tagged) as string];
  },
});

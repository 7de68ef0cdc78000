import { preloadQuery } from "convex/nextjs";
import { api } from "../convex/_generated/api";
import { Tasks } from "./Tasks";

// Rendered for every request: the list is never older than the page.
export const dynamic = "force-dynamic";

export default async function Page() {
  const tasks = await preloadQuery(api.tasks.list, {});
  return (
    <main>
      <h1>{{name}}</h1>
      <Tasks preloaded={tasks} />
    </main>
  );
}

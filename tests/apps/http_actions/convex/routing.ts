import { httpAction } from "./_generated/server";

export const caseInsensitive = httpAction(async (_ctx, request) => {
  const name = new URL(request.url).pathname.slice("/any-case/".length).toLowerCase();
  return name === "hello" ? new Response("hello") : new Response("not here", { status: 404 });
});

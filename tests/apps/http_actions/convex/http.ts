import { httpRouter } from "convex/server";
import { ConvexError } from "convex/values";
import { internal } from "./_generated/api";
import { httpAction } from "./_generated/server";
import { caseInsensitive } from "./routing";

const http = httpRouter();

http.route({
  path: "/notes",
  method: "POST",
  handler: httpAction(async (ctx, request) => {
    const { text } = await request.json();
    if (typeof text !== "string") return new Response("text is missing", { status: 400 });
    const id = await ctx.runMutation(internal.notes.add, { text });
    return Response.json({ id }, { status: 201 });
  }),
});

http.route({
  path: "/notes",
  method: "GET",
  handler: httpAction(async (ctx) => Response.json(await ctx.runQuery(internal.notes.list))),
});

// Everything below /files/, but for what has a longer prefix or a path of its own.
http.route({
  pathPrefix: "/files/",
  method: "GET",
  handler: httpAction(async (_ctx, request) => new Response(`files: ${new URL(request.url).pathname}`)),
});

http.route({
  pathPrefix: "/files/public/",
  method: "GET",
  handler: httpAction(async (_ctx, request) => new Response(`public: ${new URL(request.url).pathname}`)),
});

http.route({ path: "/files/exact", method: "GET", handler: httpAction(async () => new Response("exact")) });
http.route({ pathPrefix: "/any-case/", method: "GET", handler: caseInsensitive });

// A page of another origin may call it, since it says so itself.
const cors = (request: Request) => ({
  "Access-Control-Allow-Origin": request.headers.get("Origin") ?? "*",
  Vary: "Origin",
});

http.route({
  path: "/shared",
  method: "OPTIONS",
  handler: httpAction(async (_ctx, request) => {
    return new Response(null, {
      status: 204,
      headers: {
        ...cors(request),
        "Access-Control-Allow-Methods": "PUT",
        "Access-Control-Allow-Headers": "X-Token",
        "Access-Control-Max-Age": "60",
      },
    });
  }),
});

http.route({
  path: "/shared",
  method: "PUT",
  handler: httpAction(async (_ctx, request) => {
    return new Response(`got ${await request.text()} with ${request.headers.get("x-token")}`, { headers: cors(request) });
  }),
});

// Server-sent events: one every 30 ms, as many as asked for.
http.route({
  path: "/events",
  method: "GET",
  handler: httpAction(async (_ctx, request) => {
    const count = Number(new URL(request.url).searchParams.get("count") ?? "3");
    const encoder = new TextEncoder();
    let n = 0;
    const body = new ReadableStream({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, 30));
        controller.enqueue(encoder.encode(`data: ${++n}\n\n`));
        if (n >= count) controller.close();
      },
    });
    return new Response(body, { headers: { "Content-Type": "text/event-stream", "Cache-Control": "no-store" } });
  }),
});

// What arrives goes back while more of it arrives.
http.route({
  path: "/echo",
  method: "POST",
  handler: httpAction(async (_ctx, request) => {
    return new Response(request.body, { headers: { "Content-Type": request.headers.get("Content-Type") ?? "text/plain" } });
  }),
});

http.route({
  path: "/count",
  method: "POST",
  handler: httpAction(async (_ctx, request) => {
    let bytes = 0;
    let sum = 0;
    for await (const chunk of request.body!) {
      bytes += chunk.length;
      for (let i = 0; i < chunk.length; i += 997) sum = (sum + chunk[i]) % 65_521;
    }
    return Response.json({ bytes, sum });
  }),
});

// It answers after a while and never looks at what it was sent.
http.route({
  path: "/unread",
  method: "POST",
  handler: httpAction(async () => {
    await new Promise((resolve) => setTimeout(resolve, 500));
    return new Response("unread");
  }),
});

http.route({
  path: "/large",
  method: "GET",
  handler: httpAction(async (_ctx, request) => {
    const size = Number(new URL(request.url).searchParams.get("size"));
    const chunk = new Uint8Array(64 * 1024).fill(7);
    let left = size;
    const body = new ReadableStream({
      pull(controller) {
        const part = chunk.subarray(0, Math.min(left, chunk.length));
        left -= part.length;
        if (part.length > 0) controller.enqueue(part.slice());
        if (left === 0) controller.close();
      },
    });
    return new Response(body);
  }),
});

http.route({
  path: "/seen",
  method: "POST",
  handler: httpAction(async (ctx, request) => {
    const identity = await ctx.auth.getUserIdentity().catch((error) => `refused: ${error.message}`);
    return Response.json({
      method: request.method,
      url: request.url,
      headers: [...request.headers],
      body: await request.text(),
      identity,
      meta: await ctx.meta.getRequestMetadata(),
    });
  }),
});

http.route({
  path: "/everything",
  method: "POST",
  handler: httpAction(async (ctx, request) => {
    const form = await request.formData();
    const file = form.get("file") as File;
    const id = await ctx.storage.store(file);
    const stored = await ctx.storage.get(id);
    await ctx.scheduler.runAfter(0, internal.notes.add, { text: `scheduled by ${form.get("name")}` });
    return Response.json({
      shouted: await ctx.runAction(internal.notes.shout, { text: String(form.get("name")) }),
      size: stored!.size,
      type: stored!.type,
      text: await stored!.text(),
      url: await ctx.storage.getUrl(id),
    });
  }),
});

http.route({
  path: "/answers",
  method: "GET",
  handler: httpAction(async (_ctx, request) => {
    const kind = new URL(request.url).searchParams.get("kind");
    switch (kind) {
      case "empty":
        return new Response(null, { status: 204 });
      case "teapot":
        return new Response("short and stout", { status: 418, statusText: "I'm a teapot" });
      case "redirect":
        return Response.redirect(new URL("/answers?kind=teapot", request.url).href, 307);
      case "cookies": {
        const headers = new Headers({ "X-Latin": "caf\u00e9", Connection: "close", "Transfer-Encoding": "identity" });
        headers.append("Set-Cookie", "a=1; Path=/");
        headers.append("Set-Cookie", "b=2; HttpOnly");
        return new Response("cookies", { headers });
      }
      case "length":
        return new Response("12345", { headers: { "Content-Length": "5" } });
      case "too-short":
        return new Response("123", { headers: { "Content-Length": "5" } });
      case "binary":
        return new Response(new Uint8Array([0, 255, 10, 13, 0]));
      case "blob":
        return new Response(new Blob(["<p>hi</p>"], { type: "text/html" }));
      case "read-before": {
        const response = new Response("already read");
        await response.text();
        return response;
      }
      case "read-by-others": {
        const response = new Response("somebody has it");
        response.body!.getReader();
        return response;
      }
      case "clones": {
        const response = new Response("twice");
        const texts = [await response.clone().text(), await response.text()];
        const [one, two] = new Blob(["both"]).stream().tee();
        texts.push(await new Response(one).text(), await new Response(two).text());
        return Response.json(texts);
      }
      case "fetched":
        return await fetch(new URL(request.url).searchParams.get("from")!);
      case "fetched-again": {
        const answer = await fetch(new URL(request.url).searchParams.get("from")!);
        return new Response(answer.body, { status: answer.status, headers: answer.headers });
      }
      case "nothing":
        return undefined as unknown as Response;
      case "text":
        return "not a response" as unknown as Response;
      case "throws":
        console.log("about to throw");
        throw new Error("it broke");
      case "throws-data":
        throw new ConvexError({ code: "NOPE", amount: 3n });
      case "throws-late":
        return new Response(
          new ReadableStream({
            start(controller) {
              controller.enqueue(new TextEncoder().encode("the beginning"));
              setTimeout(() => controller.error(new Error("no more")), 50);
            },
          }),
        );
      case "never":
        await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
        return new Response("nobody reads this");
      default:
        return new Response("what?", { status: 400 });
    }
  }),
});

for (const method of ["PUT", "DELETE", "PATCH"] as const) {
  http.route({ path: "/methods", method, handler: httpAction(async (_ctx, request) => new Response(`${request.method} ${await request.text()}`)) });
}

export default http;

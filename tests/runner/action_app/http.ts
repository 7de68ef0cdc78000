import { httpActionGeneric as httpAction, httpRouter } from "convex/server";

const http = httpRouter();
const route = (path: string, method: any, handler: any) => http.route({ path, method, handler: httpAction(handler) });

route("/echo", "POST", async (_: any, request: Request) => {
  const text = await request.text();
  return new Response(text, {
    status: 201,
    headers: [["x-method", request.method], ["x-url", request.url], ["x-given", request.headers.get("x-given") ?? ""], ["set-cookie", "a=1"], ["set-cookie", "b=2"]],
  });
});
route("/empty", "GET", async () => new Response(null, { status: 204 }));
route("/count", "POST", async (_: any, request: Request) => {
  let bytes = 0;
  let parts = 0;
  for await (const part of request.body as any) {
    bytes += part.length;
    parts++;
  }
  return Response.json({ bytes, parts });
});
route("/stream", "GET", async (_: any, request: Request) => {
  const total = Number(new URL(request.url).searchParams.get("mib")) * 16;
  let sent = 0;
  const body = new ReadableStream({
    pull(controller) {
      if (sent++ >= total) controller.close();
      else controller.enqueue(new Uint8Array(65536).fill(sent % 256));
    },
  });
  return new Response(body, { headers: { "content-type": "application/octet-stream" } });
});
route("/pass", "POST", async (_: any, request: Request) => new Response(request.body, { headers: { "x-through": "yes" } }));
route("/ticks", "GET", async (_: any, request: Request) => {
  request.signal.addEventListener("abort", () => console.log("client gone"));
  const body = new ReadableStream({
    async start(controller) {
      for (let i = 0; !request.signal.aborted; i++) {
        controller.enqueue(new TextEncoder().encode(`${i}\n`));
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
  });
  return new Response(body);
});
route("/throws", "GET", async () => {
  throw new Error("it broke");
});
route("/late", "GET", async () => new Response(new ReadableStream({
  async pull(controller) {
    controller.enqueue(new TextEncoder().encode("begun"));
    await new Promise((resolve) => setTimeout(resolve, 10));
    controller.error(new Error("late failure"));
  },
})));
route("/text", "GET", async () => "no response" as any);
route("/caught", "GET", async () => {
  try {
    return 5 as any;
  } catch {
    return new Response("never");
  }
});
route("/who", "GET", async (ctx: any) => Response.json(await ctx.runQuery("acting:x", { i: 1 })));
http.route({ pathPrefix: "/files/", method: "GET", handler: httpAction(async (_: any, request: Request) => new Response(new URL(request.url).pathname)) });

export default http;

import { HttpRouterWithHono, type HonoWithConvex } from "convex-helpers/server/hono";
import { Hono } from "hono";
import { bearerAuth } from "hono/bearer-auth";
import { cors } from "hono/cors";
import { HTTPException } from "hono/http-exception";
import { secureHeaders } from "hono/secure-headers";
import { streamSSE, streamText } from "hono/streaming";
import { internal } from "./_generated/api";
import { httpAction, type ActionCtx } from "./_generated/server";

const app: HonoWithConvex<ActionCtx> = new Hono();

app.use("/api/*", cors({ origin: ["https://shop.example"], allowMethods: ["GET", "POST", "DELETE"], maxAge: 600 }));
app.use("*", secureHeaders());
app.use("/admin/*", bearerAuth({ token: "let-me-in" }));

app.get("/", (c) => c.text("Hono on Convex"));
app.get("/api/books", async (c) => c.json(await c.env.runQuery(internal.books.list)));
app.post("/api/books", async (c) => {
  const book = await c.req.json();
  if (typeof book.title !== "string") throw new HTTPException(422, { message: "a book has a title" });
  return c.json({ id: await c.env.runMutation(internal.books.add, book) }, 201);
});
app.get("/api/books/:title{[a-z-]+}", async (c) => {
  const found = await c.env.runQuery(internal.books.find, { title: c.req.param("title") });
  return found === null ? c.notFound() : c.json(found);
});
app.get("/admin/secret", (c) => c.text("the secret"));
app.get("/old", (c) => c.redirect("/", 301));
app.get("/cookie", (c) => {
  c.header("Set-Cookie", "a=1", { append: true });
  c.header("Set-Cookie", "b=2", { append: true });
  return c.html(`<p>${c.req.header("cookie") ?? "none"}</p>`);
});
app.post("/form", async (c) => {
  const body = await c.req.parseBody();
  return c.json({ name: body.name, file: await (body.file as File).text() });
});
app.get("/count", (c) =>
  streamText(c, async (stream) => {
    for (let n = 1; n <= 3; n++) {
      await stream.writeln(String(n));
      await stream.sleep(20);
    }
  }),
);
app.get("/events", (c) =>
  streamSSE(c, async (stream) => {
    for (let n = 1; n <= 3; n++) await stream.writeSSE({ data: String(n), event: "tick", id: String(n) });
  }),
);
app.all("/any", (c) => c.text(c.req.method));
app.get("/broken", () => {
  throw new Error("broken");
});
app.notFound((c) => c.json({ missing: c.req.path }, 404));
app.onError((error, c) => (error instanceof HTTPException ? error.getResponse() : c.text(`caught: ${error.message}`, 500)));

const http = new HttpRouterWithHono(app);
// Routes of the ordinary kind beside it.
http.route({ path: "/plain", method: "GET", handler: httpAction(async () => new Response("plain")) });
export default http;

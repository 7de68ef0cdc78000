"use node";
import Anthropic from "@anthropic-ai/sdk";
import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import Ajv from "ajv";
import * as archiver from "archiver";
import axios from "axios";
import bcrypt from "bcryptjs";
import * as cheerio from "cheerio";
import { parse } from "csv-parse/sync";
import express from "express";
import got from "got";
import Handlebars from "handlebars";
import Redis from "ioredis";
import { ObjectId } from "mongodb";
import nodeFetch from "node-fetch";
import http from "node:http";
import type { AddressInfo } from "node:net";
import { PassThrough } from "node:stream";
import nodemailer from "nodemailer";
import OpenAI from "openai";
import pg from "pg";
import { Resend } from "resend";
import { Webhook } from "svix";
import { request } from "undici";
import { v4 } from "uuid";
import winston from "winston";
import { WebSocket as Socket, WebSocketServer } from "ws";
import { parseStringPromise } from "xml2js";
import { action } from "./_generated/server";

/** Something for clients to talk to, for as long as `body` takes. */
async function serving<T>(handler: http.RequestListener, body: (url: string) => Promise<T>): Promise<T> {
  const server = http.createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return await body(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.close();
  }
}

function answering(value: unknown): http.RequestListener {
  return (asked, answer) => {
    asked.resume().on("end", () => answer.setHeader("content-type", "application/json").end(JSON.stringify(value)));
  };
}

function streaming(events: unknown[]): http.RequestListener {
  return (asked, answer) => {
    asked.resume().on("end", () => {
      answer.setHeader("content-type", "text/event-stream");
      for (const event of events) answer.write(`data: ${JSON.stringify(event)}\n\n`);
      answer.end("data: [DONE]\n\n");
    });
  };
}

const uses: Record<string, () => Promise<unknown>> = {
  async nodemailer() {
    const transport = nodemailer.createTransport({ streamTransport: true, buffer: true });
    const attachments = [{ filename: "a.txt", content: "x" }];
    const { message } = await transport.sendMail({ from: "a@b.c", to: "d@e.f", subject: "Hello", text: "hi", attachments });
    return String(message).includes("Subject: Hello");
  },
  bcryptjs: async () => await bcrypt.compare("x", await bcrypt.hash("x", 4)),
  axios: () => serving(answering({ ok: 1 }), async (url) => (await axios.post(url, { a: 1 })).data.ok),
  async svix() {
    const webhook = new Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    const now = new Date();
    const seconds = String(Math.floor(now.getTime() / 1000));
    const headers = { "svix-id": "m", "svix-timestamp": seconds, "svix-signature": webhook.sign("m", now, '{"a":1}') };
    return webhook.verify('{"a":1}', headers);
  },
  s3: () =>
    serving(
      (asked, answer) => void asked.resume().on("end", () => answer.setHeader("ETag", '"x"').end(asked.method === "GET" ? "content" : "")),
      async (endpoint) => {
        const credentials = { accessKeyId: "a", secretAccessKey: "b" };
        const s3 = new S3Client({ endpoint, region: "us-east-1", forcePathStyle: true, credentials });
        const put = await s3.send(new PutObjectCommand({ Bucket: "b", Key: "k", Body: Buffer.from("hi") }));
        const found = await s3.send(new GetObjectCommand({ Bucket: "b", Key: "k" }));
        return [put.ETag, await found.Body!.transformToString()];
      },
    ),
  handlebars: async () => Handlebars.compile("Hi {{name}}")({ name: "x" }),
  ajv: async () => new Ajv().compile({ type: "object", required: ["a"] })({ a: 1 }),
  cheerio: async () => cheerio.load("<p>hi</p>")("p").text(),
  csv: async () => parse("a,b\n1,2", { columns: true }),
  xml: async () => await parseStringPromise("<a><b>1</b></a>"),
  async archiver() {
    const archive = new (archiver as any).ZipArchive();
    const out = new PassThrough();
    const chunks: Buffer[] = [];
    out.on("data", (chunk) => chunks.push(chunk));
    archive.pipe(out);
    archive.append("hello", { name: "x.txt" });
    await archive.finalize();
    return Buffer.concat(chunks).subarray(0, 2).toString();
  },
  openai: () =>
    serving(
      streaming(["a", "b"].map((content) => ({ id: "1", object: "chat.completion.chunk", choices: [{ index: 0, delta: { content } }] }))),
      async (baseURL) => {
        const client = new OpenAI({ apiKey: "x", baseURL });
        let text = "";
        const parts = await client.chat.completions.create({ model: "m", stream: true, messages: [{ role: "user", content: "hi" }] });
        for await (const part of parts) text += part.choices[0].delta.content;
        return text;
      },
    ),
  anthropic: () =>
    serving(
      answering({ id: "m", type: "message", role: "assistant", model: "c", content: [{ type: "text", text: "yo" }] }),
      async (baseURL) => {
        const client = new Anthropic({ apiKey: "x", baseURL });
        const said = await client.messages.create({ model: "c", max_tokens: 5, messages: [{ role: "user", content: "hi" }] });
        return said.content[0];
      },
    ),
  undici: () => serving(answering({ ok: 2 }), async (url) => await (await request(url)).body.json()),
  nodeFetch: () => serving(answering({ ok: 3 }), async (url) => await (await nodeFetch(url)).json()),
  got: () => serving(answering({ ok: 4 }), async (url) => await got(url).json()),
  async pg() {
    const client = new pg.Client({ host: "127.0.0.1", port: 1, connectionTimeoutMillis: 500 });
    return await client.connect().then(() => "connected", (error) => error.code);
  },
  async ws() {
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    server.on("connection", (socket) => socket.on("message", (message) => socket.send(`got ${message}`)));
    await new Promise((resolve) => server.on("listening", resolve));
    const socket = new Socket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
    const answer = await new Promise((resolve, reject) => {
      socket.on("open", () => socket.send("x"));
      socket.on("message", (message) => resolve(String(message)));
      socket.on("error", reject);
    });
    socket.close();
    server.close();
    return answer;
  },
  resend: () =>
    serving(answering({ id: "e1" }), async (baseUrl) => {
      const resend = new Resend("re_x", { baseUrl } as any);
      return (await resend.emails.send({ from: "a@b.c", to: "d@e.f", subject: "s", text: "t" })).data?.id;
    }),
  async winston() {
    winston.createLogger({ transports: [new winston.transports.Console()] }).info("from winston");
    return null;
  },
  async express() {
    const app = express();
    app.get("/x", (asked, answer) => void answer.json(asked.query));
    return await serving(app, async (url) => await (await fetch(`${url}/x?a=1`)).json());
  },
  uuid: async () => v4().length,
  async ioredis() {
    const redis = new Redis(1, "127.0.0.1", { lazyConnect: true, retryStrategy: () => null });
    redis.on("error", () => {});
    return await redis.connect().then(() => "connected", (error) => error.message);
  },
  mongodb: async () => new ObjectId().toHexString().length,
};

/** What each package says, or why it failed. */
export const all = action({
  args: {},
  handler: async () => {
    const said: Record<string, unknown> = {};
    for (const [name, use] of Object.entries(uses)) {
      try {
        said[name] = JSON.stringify(await use());
      } catch (error) {
        said[name] = String((error as Error).stack);
      }
    }
    return said;
  },
});

// Packages that people use in "use node" actions, each doing something real without leaving this machine.

import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, finish, url } from "./harness.mjs";

const expected = {
  nodemailer: true, bcryptjs: true, axios: 1, svix: { a: 1 }, s3: ['"x"', "content"], handlebars: "Hi x", ajv: true, cheerio: "hi",
  csv: [{ a: "1", b: "2" }], xml: { a: { b: ["1"] } }, archiver: "PK", openai: "ab", anthropic: { type: "text", text: "yo" }, undici: { ok: 2 },
  nodeFetch: { ok: 3 }, got: { ok: 4 }, pg: "ECONNREFUSED", ws: "got x", resend: "e1", winston: null, express: { a: "1" }, uuid: 36,
  ioredis: "Connection is closed.", mongodb: 24,
};
const said = await new ConvexHttpClient(url, { logger: false }).action(api.packages.all, {});
for (const [name, value] of Object.entries(expected)) {
  await check(name, () => {
    let found = said[name];
    try {
      found = JSON.parse(found);
    } catch {} // Why it failed.
    assert.deepEqual(found, value);
  });
}
finish();

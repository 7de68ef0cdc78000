import { ConvexHttpClient } from "convex/browser";
import { anyApi as api } from "convex/server";
import { assert, check, finish, url } from "./harness.mjs";

const client = new ConvexHttpClient(url, { logger: false });

for (const round of ["first", "second"]) {
  await check(`packages do what they are for, the ${round} time`, async () => {
    assert.deepEqual(await client.query(api.packages.everything), {
      dateFns: "1970-01-02",
      decimal: "0.3",
      immer: { a: 2 },
      immutable: { a: 1, b: 2 },
      jose: { a: 1 },
      lodash: [{ odd: [1, 3], even: [2] }, 1],
      marked: "<h1>hi <em>there</em></h1>\n",
      mobx: 10,
      nanoid: 21,
      qs: ["a[b][0]=1&a[b][1]=2", { a: { b: "1" }, c: "2" }],
      rxjs: [2, 4],
      superjson: '{"json":{"at":"1970-01-01T00:00:00.000Z","set":[1]},"meta":{"values":{"at":["Date"],"set":["set"]},"v":1}}',
      uuid: [36, 36, "4f3f2898-69e3-5a0d-820a-c4e87987dbce"],
    });
  });
}

await check("a package that patches shared objects works, for its own functions only", async () => {
  for (let n = 0; n < 3; n++) assert.deepEqual(await client.query(api.patching.metadata), ["nothing", "kept"]);
  assert.equal(await client.query(api.realm.hasMetadata), false);
});

await check("assignments over what is shared work, and stay where they are made", async () => {
  assert.deepEqual(await client.query(api.packages.assignments), ["old", "Renamed: changed", "own", 6, "mine", 1]);
});

await check("there is no place to leave something for the next call", async () => {
  assert.deepEqual(await client.query(api.realm.hidingPlaces), []);
});

finish();

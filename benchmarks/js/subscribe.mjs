// An unmodified official client that prints every result of a query, one line each.
import { ConvexClient } from "convex/browser";
import { anyApi } from "convex/server";

const client = new ConvexClient(process.argv[2], { unsavedChangesWarning: false });
client.onUpdate(anyApi.extra0.answer, {}, (value) => console.log(JSON.stringify(value)));

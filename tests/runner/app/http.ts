import { httpActionGeneric, httpRouter } from "convex/server";

const router = httpRouter();
router.route({ path: "/hello", method: "GET", handler: httpActionGeneric(async () => new Response("hi")) });
router.route({ pathPrefix: "/files/", method: "POST", handler: httpActionGeneric(async () => new Response("ok")) });
export default router;

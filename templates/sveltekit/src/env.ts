import { defineEnvVars } from "@sveltejs/kit/env";

export const variables = defineEnvVars({
  PUBLIC_CONVEX_URL: { public: true, static: true, description: "Where the backend is; cvx writes it to .env.local" },
});

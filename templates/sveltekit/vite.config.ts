import adapter from "@sveltejs/adapter-static";
import { sveltekit } from "@sveltejs/kit/vite";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [sveltekit({ adapter: adapter({ fallback: "index.html" }) })],
  // Functions and the local database change all the time; the page hears of it from the backend, not from Vite.
  server: { watch: { ignored: ["**/.cvx/**", "**/src/convex/*.ts"] } },
});

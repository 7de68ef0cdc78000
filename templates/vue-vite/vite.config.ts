import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [vue()],
  // Functions and the local database change all the time; the page hears of it from the backend, not from Vite.
  server: { watch: { ignored: ["**/.cvx/**", "**/convex/*.ts"] } },
});

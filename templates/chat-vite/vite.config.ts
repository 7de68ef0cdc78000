import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  // Functions and the local database change all the time; the page hears of it from the backend, not from Vite.
  server: { watch: { ignored: ["**/.cvx/**", "**/convex/*.ts"] } },
});

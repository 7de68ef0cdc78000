import type { AuthConfig } from "convex/server";

export default {
  providers: [
    // OpenID Connect: the backend finds the keys by itself.
    { domain: process.env.OIDC_ISSUER!, applicationID: "app" },
    // Any other token: say where the keys are. A data: URL keeps them right here.
    {
      type: "customJwt",
      applicationID: "app",
      issuer: process.env.OWN_ISSUER!,
      jwks: `data:application/json;base64,${btoa(process.env.OWN_KEYS!)}`,
      algorithm: "ES256",
    },
  ],
} satisfies AuthConfig;

import { Email } from "@convex-dev/auth/providers/Email";
import { Password } from "@convex-dev/auth/providers/Password";
import { convexAuth } from "@convex-dev/auth/server";
import type { OIDCConfig } from "@auth/core/providers";

/** Any OpenID Connect provider; for GitHub, Google and the like there are ready-made ones in @auth/core. */
const work: OIDCConfig<{ sub: string; name: string; email: string }> = {
  id: "work",
  name: "Work",
  type: "oidc",
  issuer: process.env.OIDC_ISSUER,
  clientId: "app",
  clientSecret: process.env.OIDC_SECRET,
  profile: ({ sub, name, email }) => ({ id: sub, name, email }),
};

/** A link by mail, sent by whatever sends mail. */
const magicLink = Email({
  id: "magic-link",
  maxAge: 10 * 60,
  authorize: undefined, // Whoever has the link is who it was sent to.
  async sendVerificationRequest({ identifier: to, url }) {
    const sent = await fetch(process.env.MAIL_URL!, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ to, link: url }),
    });
    if (!sent.ok) throw new Error("The mail could not be sent.");
  },
});

/** A code by mail: that an address is its user's, or for whoever has forgotten the password. */
const code = (id: string) =>
  Email({
    id,
    maxAge: 10 * 60,
    generateVerificationToken: async () => crypto.getRandomValues(new Uint32Array(1))[0].toString().padStart(10, "0"),
    async sendVerificationRequest({ identifier: to, token }) {
      await fetch(process.env.MAIL_URL!, { method: "POST", body: JSON.stringify({ to, id, code: token }) });
    },
  });

const checked = Password({ id: "checked", verify: code("verify"), reset: code("reset") });

export const { auth, signIn, signOut, store, isAuthenticated } = convexAuth({
  providers: [Password, checked, work, magicLink],
  jwt: { durationMs: Number(process.env.TOKEN_MS ?? 3_600_000) },
});

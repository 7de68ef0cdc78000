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

export const { auth, signIn, signOut, store, isAuthenticated } = convexAuth({
  providers: [Password, work, magicLink],
  jwt: { durationMs: Number(process.env.TOKEN_MS ?? 3_600_000) },
});

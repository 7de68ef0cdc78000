"use node";
import { v } from "convex/values";
import * as jose from "jose";
import jwt from "jsonwebtoken";
import { createPublicKey, generateKeyPairSync, randomUUID, scryptSync, timingSafeEqual } from "node:crypto";
import { action } from "./_generated/server";

export const issue = action({
  args: { subject: v.string() },
  returns: v.string(),
  handler: async (_ctx, { subject }) =>
    jwt.sign({ sub: subject, jti: randomUUID() }, "a secret", { expiresIn: "1h", issuer: "tests" }),
});

export const check = action({
  args: { token: v.string() },
  handler: async (_ctx, { token }) => {
    const claims = jwt.verify(token, "a secret", { issuer: "tests" }) as jwt.JwtPayload;
    return claims.sub ?? null;
  },
});

/** jsonwebtoken signs with RSA, jose verifies with the public key, and encrypts. */
export const roundTrip = action({
  args: {},
  handler: async () => {
    const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const token = jwt.sign({ role: "admin" }, privateKey, { algorithm: "RS256", keyid: "k1" });
    const { payload, protectedHeader } = await jose.jwtVerify(token, publicKey);
    const secret = new TextEncoder().encode("0123456789abcdef0123456789abcdef");
    const sealed = await new jose.EncryptJWT({ deep: true }).setProtectedHeader({ alg: "dir", enc: "A256GCM" }).encrypt(secret);
    const opened = await jose.jwtDecrypt(sealed, secret);
    const jwk = createPublicKey(privateKey).export({ format: "jwk" });
    const one = scryptSync("password", "salt", 32);
    return {
      role: payload.role,
      kid: protectedHeader.kid,
      deep: opened.payload.deep,
      kty: jwk.kty,
      same: timingSafeEqual(one, scryptSync("password", "salt", 32)),
    };
  },
});

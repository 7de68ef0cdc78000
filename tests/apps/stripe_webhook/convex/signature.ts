// Stripe's scheme: the header says `t=<seconds>,v1=<hex>`, and v1 is the HMAC-SHA256 of `<seconds>.<body>`.
// https://docs.stripe.com/webhooks#verify-manually

const TOLERANCE_S = 300;

export async function isFromStripe(body: string, header: string | null, secret: string): Promise<boolean> {
  const pairs = (header ?? "").split(",").map((pair) => pair.split("=", 2));
  const time = pairs.find(([name]) => name === "t")?.[1] ?? "";
  if (!(Math.abs(Date.now() / 1000 - Number(time)) <= TOLERANCE_S)) return false;
  const encoder = new TextEncoder();
  const key = await crypto.subtle.importKey("raw", encoder.encode(secret), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
  for (const [name, hex] of pairs) {
    if (name !== "v1" || !/^[0-9a-f]{64}$/.test(hex)) continue;
    const signature = Uint8Array.from(hex.match(/../g)!, (byte) => parseInt(byte, 16));
    // In constant time: it does not tell how much of a guess was right.
    if (await crypto.subtle.verify("HMAC", key, signature, encoder.encode(`${time}.${body}`))) return true;
  }
  return false;
}

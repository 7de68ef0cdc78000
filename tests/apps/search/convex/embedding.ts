// Stands for a model: texts that share words get vectors that point the same way.

export const DIMENSIONS = 64;

export async function embed(text: string): Promise<number[]> {
  const vector = new Array<number>(DIMENSIONS).fill(0);
  for (const word of text.toLowerCase().match(/\p{L}+/gu) ?? []) {
    let hash = 7;
    for (const c of word) hash = (hash * 31 + c.codePointAt(0)!) >>> 0;
    vector[hash % DIMENSIONS] += 1;
  }
  return vector;
}

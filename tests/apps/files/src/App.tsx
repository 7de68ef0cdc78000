import { useMutation, useQuery } from "convex/react";
import { type FormEvent, useRef, useState } from "react";
import { api } from "../convex/_generated/api";
import type { Id } from "../convex/_generated/dataModel";

export function App() {
  const photos = useQuery(api.photos.list);
  const remove = useMutation(api.photos.remove);
  return (
    <main>
      <Upload />
      {photos?.map(({ id, url, caption, author }) => (
        <figure key={id}>
          {url !== null && <img src={url} alt={caption} />}
          <figcaption>
            {caption} by {author} <button onClick={() => remove({ id })}>Delete</button>
          </figcaption>
        </figure>
      ))}
      {photos?.length === 0 && <p>No photos yet</p>}
    </main>
  );
}

function Upload() {
  const generateUploadUrl = useMutation(api.photos.generateUploadUrl);
  const add = useMutation(api.photos.add);
  const chosen = useRef<HTMLInputElement>(null);
  const [state, setState] = useState("ready");

  async function upload(event: FormEvent) {
    event.preventDefault();
    const file = chosen.current?.files?.[0];
    if (file === undefined) return setState("choose a file first");
    setState("uploading…");
    const response = await fetch(await generateUploadUrl(), {
      method: "POST",
      headers: { "Content-Type": file.type },
      body: file,
    });
    if (!response.ok) return setState(`failed: ${(await response.json()).message}`);
    const { storageId } = (await response.json()) as { storageId: Id<"_storage"> };
    const added = await add({ file: storageId, caption: file.name, author: "me" });
    setState(added.refused ?? "done");
  }

  return (
    <form onSubmit={upload}>
      <input type="file" ref={chosen} />
      <button>Upload</button>
      <output>{state}</output>
    </form>
  );
}

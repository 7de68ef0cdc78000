"use client";

import { useMutation, usePreloadedQuery, type Preloaded } from "convex/react";
import { useState, type FormEvent } from "react";
import { api } from "../convex/_generated/api";

/** Shows what the server rendered, then follows the database. */
export function Tasks({ preloaded }: { preloaded: Preloaded<typeof api.tasks.list> }) {
  const tasks = usePreloadedQuery(preloaded);
  const add = useMutation(api.tasks.add);
  const toggle = useMutation(api.tasks.toggle);
  const [text, setText] = useState("");

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const task = text.trim();
    if (!task) return;
    setText("");
    await add({ text: task });
  };

  return (
    <>
      <form onSubmit={submit}>
        <input
          value={text}
          onChange={(event) => setText(event.target.value)}
          placeholder="What is to be done?"
          aria-label="New task"
        />
        <button type="submit">Add</button>
      </form>
      {tasks.length === 0 && <p className="hint">Nothing to do. Open this page twice and add something.</p>}
      <ul>
        {tasks.map((task) => (
          <li key={task._id} className={task.done ? "done" : ""}>
            <label>
              <input type="checkbox" checked={task.done} onChange={() => toggle({ id: task._id })} />
              {task.text}
            </label>
          </li>
        ))}
      </ul>
    </>
  );
}

// No build step: convex.js is the browser bundle of the npm package, config.js holds the deployment's address.
const client = new convex.ConvexClient(CONVEX_URL);
const api = convex.anyApi;

const list = document.querySelector("ul");
const form = document.querySelector("form");
const hint = document.querySelector(".hint");

client.onUpdate(
  api.tasks.list,
  {},
  (tasks) => {
    hint.className = "hint";
    hint.textContent = tasks.length === 0 ? "Nothing to do. Open this page twice and add something." : "";
    list.replaceChildren(...tasks.map(row));
  },
  (error) => {
    hint.className = "error";
    hint.textContent = error.message;
  },
);

function row(task) {
  const item = document.createElement("li");
  item.className = task.done ? "done" : "";
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = task.done;
  box.onchange = () => client.mutation(api.tasks.toggle, { id: task._id });
  const label = document.createElement("label");
  label.append(box, task.text);
  item.append(label);
  return item;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = form.elements.text.value.trim();
  if (text === "") return;
  form.reset();
  await client.mutation(api.tasks.add, { text });
});

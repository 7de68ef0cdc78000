// No build step: convex.js is the browser bundle of the npm package, config.js holds the deployment's address.
const client = new convex.ConvexClient(CONVEX_URL);
const api = convex.anyApi;

const list = document.querySelector("ul");
const form = document.querySelector("form");

client.onUpdate(api.tasks.list, {}, (tasks) => {
  list.replaceChildren(
    ...tasks.map((task) => {
      const item = document.createElement("li");
      item.textContent = task.text;
      item.className = task.done ? "done" : "";
      item.onclick = () => client.mutation(api.tasks.toggle, { id: task._id });
      return item;
    }),
  );
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = form.elements.text.value.trim();
  if (text === "") return;
  form.reset();
  await client.mutation(api.tasks.add, { text });
});

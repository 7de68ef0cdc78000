import { ConvexProvider, ConvexReactClient } from "convex/react";
import { createRoot } from "react-dom/client";
import { InfiniteList } from "./InfiniteList";

const convex = new ConvexReactClient(new URLSearchParams(location.search).get("backend")!);
createRoot(document.getElementById("root")!).render(
  <ConvexProvider client={convex}>
    <InfiniteList />
  </ConvexProvider>,
);

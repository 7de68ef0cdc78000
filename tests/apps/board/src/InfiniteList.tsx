import { usePaginatedQuery } from "convex/react";
import { useEffect, useRef } from "react";
import { api } from "../convex/_generated/api";

/** Loads the next page as soon as the end of the list can be seen. */
export function InfiniteList() {
  const { results, status, loadMore } = usePaginatedQuery(api.cards.feed, {}, { initialNumItems: 20 });
  const end = useRef<HTMLParagraphElement>(null);

  useEffect(() => {
    if (status !== "CanLoadMore" || end.current === null) return;
    // A busy browser tells of several changes at once, oldest first.
    const observer = new IntersectionObserver((entries) => {
      if (entries.at(-1)?.isIntersecting) loadMore(20);
    });
    observer.observe(end.current);
    return () => observer.disconnect();
  }, [status, loadMore]);

  return (
    <main>
      {results.map((card) => (
        <article key={card._id}>{card.title}</article>
      ))}
      <p ref={end} className="end">
        {status === "Exhausted" ? "That is all." : "…"}
      </p>
    </main>
  );
}

import type { Metadata } from "next";
import type { ReactNode } from "react";
import { Backend } from "./Backend";
import "./styles.css";

export const metadata: Metadata = { title: "{{name}}" };

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>
        <Backend url={process.env.NEXT_PUBLIC_CONVEX_URL!}>{children}</Backend>
      </body>
    </html>
  );
}

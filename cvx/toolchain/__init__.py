"""The right wing: from a folder of TypeScript to a running deployment. Never imports `backend`."""

"""The server's side of a push: analyse the code, work out what would change, put it in force in one step."""

"""HTTP: the server, its connections and the application. Imports every other room."""

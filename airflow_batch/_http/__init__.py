"""HTTP: settings of a connection, transport, responses."""

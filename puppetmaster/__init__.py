"""The batch engine of a Sanji gateway."""

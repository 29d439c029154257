"""The e-mail at the end of an import."""

"""The course around the library: running the chapters and building the book."""

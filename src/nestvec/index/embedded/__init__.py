"""The embedded index: a folder of vectors and one SQLite file, searched in two stages."""

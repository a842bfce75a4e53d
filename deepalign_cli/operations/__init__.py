"""What the commands do, as functions: files in, files and reports out."""

"""What a model costs, what it did, and what it keeps."""

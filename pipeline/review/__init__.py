"""What a person looks at: figures, pictures, findings, drift between runs."""

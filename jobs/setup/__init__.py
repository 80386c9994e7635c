"""What a run is made of: options in, models, vocabularies and jobs out."""
